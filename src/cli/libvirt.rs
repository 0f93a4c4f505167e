//! `libvirt`: documents of libvirt. `normalize` needs no server; `import` makes
//! devices of a document and `export` gives it back.
//!
//! A thing of its own because faults are told as compilers do, one line each
//! with its place, so that an editor can jump to it. Bounds: a file or stream is
//! read at most one byte past `limits::DOMAIN_BYTES_MAX`, however long it is.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use prost::Message;
use tonic::Status;
use tonic_types::StatusExt;

use super::{
    connect::Server,
    exit::{Exit, Failure, on_stdout},
    help,
    text::plain,
};
use crate::{
    libvirt::{Flavour, Style, parse, write},
    limits,
    name::DeviceId,
    pb::{
        ExportDomainXmlRequest, ImportDomainXmlRequest,
        export_domain_xml_request::{Flavor, What},
    },
};

/// What to do with a document.
#[derive(Debug, Subcommand)]
pub enum LibvirtCommand {
    /// Print the character devices of a document as libvirt would store them
    #[command(after_long_help = help::libvirt_normalize())]
    Normalize(NormalizeArgs),
    /// Make a device of each character device of a document
    #[command(after_long_help = help::libvirt_import())]
    Import(ImportArgs),
    /// Print devices as a document
    #[command(after_long_help = help::libvirt_export())]
    Export(ExportArgs),
}

/// What `libvirt normalize` is told.
#[derive(Debug, Args)]
pub struct NormalizeArgs {
    /// The document; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What `libvirt import` is told.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The document; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The domain's name, if not the one in the document
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The server's set of credentials for devices that speak TLS
    #[arg(long, value_name = "NAME")]
    credentials: Option<String>,
    /// Let the server check everything and change nothing
    #[arg(long)]
    validate_only: bool,
}

/// Which devices are exported.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Exported {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    /// All devices of this domain
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
}

/// What `libvirt export` is told.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    what: Exported,
    /// With what is so now: the paths of ptys
    #[arg(long)]
    live: bool,
}

/// Runs a command; `server` is asked for only by those that need one.
pub(super) async fn run(
    command: LibvirtCommand,
    server: impl FnOnce() -> Result<Server, Failure>,
) -> Result<(), Failure> {
    match command {
        LibvirtCommand::Normalize(args) => normalize(&args.file),
        LibvirtCommand::Import(args) => import(&server()?, args).await,
        LibvirtCommand::Export(args) => export(&server()?, args).await,
    }
}

fn normalize(file: &Path) -> Result<(), Failure> {
    let domain = checked(file, &read(file)?)?;
    let text = write(&domain.devices, Style::Indented, Flavour::Stored);
    io::stdout().write_all(text.as_bytes()).map_err(on_stdout)
}

async fn import(server: &Server, args: ImportArgs) -> Result<(), Failure> {
    let document = read(&args.file)?;
    // The same faults as offline, and text for sure, before anybody is asked.
    checked(&args.file, &document)?;
    let request = ImportDomainXmlRequest {
        xml: String::from_utf8_lossy(&document).into_owned(),
        domain: args.domain.unwrap_or_default(),
        validate_only: args.validate_only,
        credentials: args.credentials.unwrap_or_default(),
        ..ImportDomainXmlRequest::default()
    };
    if request.encoded_len() > limits::REQUEST_BYTES_MAX {
        let most = limits::REQUEST_BYTES_MAX;
        let problem = format!(
            "too-large: a server takes at most {most} bytes; `lineman libvirt normalize` leaves \
             only the character devices, and --domain then names the domain"
        );
        tell_faults(&args.file, [("1:1".to_owned(), problem)].into_iter());
        return Err(Failure::quiet(Exit::Data));
    }
    let imported = server.devices().await?.import_domain_xml(request).await;
    let imported = imported.map_err(|status| import_failure(&args.file, status))?.into_inner();
    let done = if args.validate_only { "would be created" } else { "created" };
    let mut out = io::stdout().lock();
    for device in imported.devices {
        writeln!(out, "{} {done}", plain(&device.name)).map_err(on_stdout)?;
    }
    Ok(())
}

async fn export(server: &Server, args: ExportArgs) -> Result<(), Failure> {
    let what = match (args.what.device, args.what.domain) {
        (Some(device), _) => {
            let name = device.strip_prefix("devices/").unwrap_or(&device);
            let id: DeviceId = name.parse().map_err(|error: crate::name::Error| {
                Failure::new(Exit::Invalid, error.to_string()).of(plain(name))
            })?;
            What::Device(id.resource_name())
        }
        (None, domain) => What::Domain(domain.unwrap_or_default()),
    };
    let flavor = if args.live { Flavor::Live } else { Flavor::Stored };
    let request = ExportDomainXmlRequest { what: Some(what), flavor: flavor.into() };
    let exported = server.devices().await?.export_domain_xml(request).await?.into_inner();
    io::stdout().write_all(exported.xml.as_bytes()).map_err(on_stdout)
}

/// The domain of a document; its faults are told here.
fn checked(file: &Path, document: &[u8]) -> Result<crate::libvirt::Domain, Failure> {
    parse(document).map_err(|faults| {
        let told = faults.iter().map(|fault| {
            let place = format!("{}:{}", fault.line, fault.column);
            (place, format!("{}: {}", fault.class, fault.message))
        });
        tell_faults(file, told);
        Failure::quiet(Exit::Data)
    })
}

/// Faults that only a server finds, in the same form.
fn import_failure(file: &Path, status: Status) -> Failure {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    if reason != "INVALID_XML" {
        return status.into();
    }
    let faults = status.get_details_bad_request().map(|bad| bad.field_violations);
    let told = faults.unwrap_or_default().into_iter().map(|fault| {
        let place = fault.field.strip_prefix("xml:").unwrap_or("0:0").to_owned();
        (place, fault.description)
    });
    tell_faults(file, told);
    Failure::quiet(Exit::Data)
}

fn tell_faults(file: &Path, faults: impl Iterator<Item = (String, String)>) {
    let mut stderr = io::stderr().lock();
    let file = plain(&file.to_string_lossy());
    for (place, problem) in faults {
        // Nobody is left to tell if standard error is gone.
        writeln!(stderr, "{file}:{}: {}", plain(&place), plain(&problem)).ok();
    }
}

/// The document, or enough of it to see that it is too long.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(file).map_err(|error| {
        let message = format!("cannot read {}: {error}", plain(&file.to_string_lossy()));
        Failure::new(Exit::Failed, message)
    })
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let bytes_max = u64::try_from(limits::DOMAIN_BYTES_MAX).unwrap_or(u64::MAX);
    let mut document = Vec::new();
    source.take(bytes_max.saturating_add(1)).read_to_end(&mut document)?;
    Ok(document)
}
