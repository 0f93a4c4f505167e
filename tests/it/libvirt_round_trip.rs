//! Every example of what libvirt accepts goes into a server as a domain and comes
//! out as libvirt would store it; those that a server does not serve say why not.

use lineman::pb::{self, export_domain_xml_request as export};
use tonic::Status;

use crate::harness::{Client, Server, device_names};

const EXAMPLES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libvirt/chardev-examples.txt"));

/// Examples that libvirt accepts and a server cannot serve, and why.
const NOT_SERVED: &[(&str, &str)] = &[
    ("V03", "vc is not served yet"),
    ("V08", "spec.file.path: must not be empty"),
    ("V09", "spec.file.path: must be absolute"),
    ("V14", "must be a port's number"),
    // All addresses of this host: more than development mode allows.
    ("V15", "allows no network that holds 0.0.0.0:1"),
    ("V20", "the timeout must be 1 to 3600 seconds, not 0"),
    ("V27", "a path must be given"),
    ("V28", "a path must be given"),
    ("V33", "spicevmc is not served here"),
    ("V34", "spiceport is not served here"),
    ("V35", "spiceport is not served here"),
    ("V36", "dbus is not served here"),
    ("V37", "nmdm is not served here"),
    ("V38", "nmdm is not served here"),
    ("V39", "qemu-vdagent is not served here"),
    ("V40", "qemu-vdagent is not served here"),
    ("D11", "vc is not served yet"),
    ("D15", "vc is not served yet"),
    ("D16", "vc is not served yet"),
    ("D17", "vc is not served yet"),
    ("D18", "vc is not served yet"),
    ("D20", "spicevmc is not served here"),
    ("D21", "vc is not served yet"),
];

/// The kinds that no server serves are null, so that numbers and pairs of their
/// rows are seen too.
fn served_kinds(text: &str) -> String {
    text.replace("type='vc'", "type='null'")
}

async fn import(client: &mut Client, devices: &str) -> Result<Vec<pb::Device>, Status> {
    let request = pb::ImportDomainXmlRequest {
        xml: format!("<domain><os><type>hvm</type></os><devices>{devices}</devices></domain>"),
        domain: "d".into(),
        // Of development mode, for the rows that speak TLS.
        credentials: "dev".into(),
        ..Default::default()
    };
    Ok(client.devices.import_domain_xml(request).await?.into_inner().devices)
}

/// The domain without its layout; then it is gone.
async fn exported(client: &mut Client, made: Vec<pb::Device>) -> String {
    let what = Some(export::What::Domain("d".into()));
    let request = pb::ExportDomainXmlRequest { what, ..Default::default() };
    let xml = client.devices.export_domain_xml(request).await.unwrap().into_inner().xml;
    for device in made {
        let request = pb::DeleteDeviceRequest { name: device.name, ..Default::default() };
        client.devices.delete_device(request).await.unwrap();
    }
    xml.lines().map(str::trim_start).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_libvirt_comes_out_as_it_would_be_stored() {
    let server = Server::start();
    let mut client = server.client().await;
    let dir = server.dir().to_str().unwrap();
    let (mut wrong, mut not_served) = (Vec::new(), Vec::new());
    for row in EXAMPLES.lines().filter(|row| !row.starts_with('#')) {
        // What stands on this host stands in the server's folders.
        let row = row.replace("/srv/", &format!("{dir}/"));
        let row = row.replace("/dev/parport0", &format!("{dir}/parport0"));
        let (given, stored) = row.split_once(" => ").unwrap();
        let (id, given) = (&given[..3], &given["V00 G ".len()..]);
        let refusal = NOT_SERVED.iter().find(|(row, _)| *row == id).map(|(_, why)| why);
        match (import(&mut client, given).await, refusal) {
            (Ok(made), None) => {
                let xml = exported(&mut client, made).await;
                if xml != stored {
                    wrong.push(format!("{id}: {xml}\n not {stored}"));
                }
            }
            (Ok(_), Some(_)) => wrong.push(format!("{id} is served")),
            (Err(error), Some(why)) if format!("{error:?}").contains(why) => {
                not_served.push(id.to_owned())
            }
            (Err(_), None) if stored.starts_with('!') => {}
            (Err(error), _) => wrong.push(format!("{id}: {error:?}")),
        }
        if given.contains("'vc'") && !stored.starts_with('!') {
            let made = import(&mut client, &served_kinds(given)).await.unwrap();
            let xml = exported(&mut client, made).await;
            if xml != served_kinds(stored) {
                wrong.push(format!("{id} with null: {xml}\n not {}", served_kinds(stored)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(not_served.len(), NOT_SERVED.len());
    assert_eq!(device_names(&mut client).await, Vec::<String>::new());
}
