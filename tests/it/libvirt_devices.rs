//! A domain's XML becomes devices, all or none, and comes back as it was.

use std::fs;

use lineman::pb::{
    self, device_spec::HostInterface, device_status::State, export_domain_xml_request as export,
    reconnect_spec, tcp_host_interface,
};
use tonic::{Code, Status};

use crate::harness::{Client, Server, device_names, reason, run, violations};

/// Every host interface that libvirt and we have, on each element.
fn domain(dir: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>Web 1</name>
  <os><type>hvm</type></os>
  <devices>
    <serial type='pty'><target type='isa-serial' port='0'><model name='isa-serial'/></target><alias name='ua-s0'/></serial>
    <serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/><protocol type='telnet'/></serial>
    <serial type='unix'><source path='{dir}/far.sock'><seclabel model='dac' relabel='no'/><reconnect enabled='yes' timeout='7'/></source></serial>
    <serial type='file'><source path='{dir}/out.log' append='on'/></serial>
    <parallel type='null'><log file='{dir}/null.log' append='off'/></parallel>
    <parallel type='tcp'><source host='127.0.0.1' service='9'><reconnect enabled='no'/></source></parallel>
    <console type='stdio'><target type='virtio'/></console>
    <channel type='udp'><source mode='bind' host='127.0.0.1' service='0'/><source mode='connect' host='127.0.0.1' service='9'/><target type='virtio' name='org.x.0'/><address type='virtio-serial' controller='0' bus='0' port='3'/></channel>
    <channel type='pipe'><source path='{dir}/pipe'/><target type='xen' name='n'/></channel>
  </devices>
</domain>
"
    )
}

async fn import(client: &mut Client, xml: &str) -> Result<Vec<pb::Device>, Status> {
    let request = pb::ImportDomainXmlRequest { xml: xml.into(), ..Default::default() };
    let response = client.devices.import_domain_xml(request).await?;
    Ok(response.into_inner().devices)
}

async fn exported(client: &mut Client, what: export::What, flavor: export::Flavor) -> String {
    let request = pb::ExportDomainXmlRequest { what: Some(what), flavor: flavor.into() };
    client.devices.export_domain_xml(request).await.unwrap().into_inner().xml
}

/// What `lineman libvirt normalize` makes of a document.
async fn normal(server: &Server, xml: &str) -> String {
    let mut command = server.lineman();
    command.args(["libvirt", "normalize", "-"]);
    run(command, xml).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_goes_in_and_comes_out_as_libvirt_would_store_it() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let xml = domain(server.dir().to_str().unwrap());
    let devices = import(&mut client, &xml).await.unwrap();
    let names: Vec<_> = devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "devices/web-1-serial0",
            "devices/web-1-serial1",
            "devices/web-1-serial2",
            "devices/web-1-serial3",
            "devices/web-1-parallel0",
            "devices/web-1-parallel1",
            "devices/web-1-console0",
            "devices/web-1-channel0",
            "devices/web-1-channel1",
        ],
        "the console that mirrors the first serial is no device"
    );
    let first = client.until_state("web-1-serial0", State::Connected).await;
    let labels = client.get("web-1-serial0").await.labels;
    let label = |key: &str| labels.get(key).map(String::as_str);
    assert_eq!(label("domain"), Some("Web 1"));
    assert_eq!(label("target-type"), Some("isa-serial"));
    assert_eq!((label("port"), label("alias")), (Some("0"), Some("ua-s0")));

    let spec = client.get("web-1-serial1").await.spec.unwrap();
    let Some(HostInterface::Tcp(tcp)) = spec.host_interface else { panic!("{spec:?}") };
    assert_eq!(tcp.protocol(), tcp_host_interface::Protocol::Telnet);
    assert_eq!(tcp.mode(), tcp_host_interface::Mode::Bind);
    let reconnect = client.get("web-1-serial2").await.spec.unwrap().reconnect.unwrap();
    assert_eq!(reconnect.policy(), reconnect_spec::Policy::Interval);
    assert_eq!(reconnect.min_delay.unwrap().seconds, 7);
    let reconnect = client.get("web-1-parallel1").await.spec.unwrap().reconnect.unwrap();
    assert_eq!(reconnect.policy(), reconnect_spec::Policy::Never);

    // Out as it would be stored, also after a restart.
    let stored = normal(&server, &xml).await;
    let all = || export::What::Domain("Web 1".into());
    assert_eq!(exported(&mut client, all(), export::Flavor::Stored).await, stored);
    server.kill();
    server.start_again();
    let mut client = server.client().await;
    assert_eq!(exported(&mut client, all(), export::Flavor::Unspecified).await, stored);

    // And live: the pty's path, once on the serial and once on its console.
    let path = client.until_state("web-1-serial0", State::Connected).await.pty_path;
    assert_ne!(path, "", "{first:?}");
    let live = exported(&mut client, all(), export::Flavor::Live).await;
    assert_eq!(live.matches(&format!("<source path='{path}'/>")).count(), 2, "{live}");
    assert_eq!(live.matches(&format!("<console type='pty' tty='{path}'>")).count(), 1, "{live}");
    let one = export::What::Device("devices/web-1-channel0".into());
    let one = exported(&mut client, one, export::Flavor::Stored).await;
    assert!(one.starts_with("<channel type='udp'>") && one.contains("port='3'"), "{one}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_are_told_at_once_and_nothing_is_made() {
    let server = Server::start();
    let mut client = server.client().await;
    let xml = "<domain><name>d</name><os><type>hvm</type></os><devices>
<serial type='pty'/>
<channel type='spicevmc'><target type='virtio'/></channel>
<parallel type='tcp'><source host='h' service='http'/></parallel>
<parallel type='file'><source path='relative'/></parallel>
<parallel type='spiceport'><source channel='c'/></parallel>
<parallel type='nmdm'/>
<channel type='qemu-vdagent'><target type='virtio'/></channel>
<parallel type='dbus'><source channel='c'/></parallel>
<parallel type='vc'/>
<parallel type='tcp'><source mode='bind' host='a b' service='1'/><protocol type='tls'/></parallel>
</devices></domain>";
    let error = import(&mut client, xml).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "INVALID_XML"));
    let mut places = violations(&error);
    places.sort();
    let expected: Vec<_> = (3..=11).map(|line| format!("xml:{line}:1")).collect();
    let mut expected = expected;
    expected.sort();
    assert_eq!(places, expected, "{error:?}");
    for kind in ["spicevmc", "spiceport", "nmdm", "qemu-vdagent", "dbus", "vc"] {
        assert!(format!("{error:?}").contains(kind), "{kind} is named");
    }
    assert_eq!(device_names(&mut client).await, Vec::<String>::new());

    // Faults of the XML itself, all of them, with their places.
    let error = import(&mut client, "<serial type='x'/>\n<parallel type='file'/>").await;
    assert_eq!(violations(&error.unwrap_err()), ["xml:1:9", "xml:2:1"]);
    let error = import(&mut client, "<serial/>").await.unwrap_err();
    assert_eq!(violations(&error), ["domain"]);
    let error = import(&mut client, "<domain><name>d</name></domain>").await.unwrap_err();
    assert_eq!(violations(&error), ["xml"]);

    // What the operator does not allow, and what is there already: all or none.
    let outside = "<domain><name>d</name><devices><serial/>\
                   <parallel type='file'><source path='/etc/x'/></parallel>\
                   <parallel type='unix'><source path='/etc/y'/></parallel></devices></domain>";
    let error = import(&mut client, outside).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::PermissionDenied, "NOT_ALLOWED_HERE")
    );
    assert_eq!(violations(&error), ["devices/d-parallel0", "devices/d-parallel1"]);
    assert_eq!(device_names(&mut client).await, Vec::<String>::new());
    client.create("d-serial1", crate::harness::pty()).await;
    let twice = "<domain><name>d</name><devices><serial/><serial/></devices></domain>";
    let error = import(&mut client, twice).await.unwrap_err();
    assert_eq!(reason(&error), "DEVICE_EXISTS");
    assert!(error.message().contains("d-serial1"), "{error:?}");
    assert_eq!(device_names(&mut client).await, ["devices/d-serial1"]);

    let request = pb::ExportDomainXmlRequest {
        what: Some(export::What::Domain("nobody".into())),
        ..Default::default()
    };
    let error = client.devices.export_domain_xml(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_request_is_told_once_and_by_its_field() {
    let server = Server::start();
    let mut client = server.client().await;
    let base = || pb::ImportDomainXmlRequest {
        xml: "<serial type='null'/>".repeat(3),
        domain: "d".into(),
        ..Default::default()
    };
    let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    for (request, field) in [
        (pb::ImportDomainXmlRequest { domain: "a\nb".into(), ..base() }, "domain"),
        (pb::ImportDomainXmlRequest { domain: "x".repeat(201), ..base() }, "domain"),
        (pb::ImportDomainXmlRequest { domain: "x".repeat(60), ..base() }, "domain"),
        (pb::ImportDomainXmlRequest { domain: "日本".into(), ..base() }, "domain"),
        (pb::ImportDomainXmlRequest { labels: labels("a b", ""), ..base() }, "labels"),
        (pb::ImportDomainXmlRequest { labels: labels("a", "\n"), ..base() }, "labels.a"),
        (pb::ImportDomainXmlRequest { credentials: "x".repeat(64), ..base() }, "credentials"),
    ] {
        let error = client.devices.import_domain_xml(request).await.unwrap_err();
        assert_eq!(reason(&error), "INVALID_FIELDS");
        assert_eq!(violations(&error), [field], "{error:?}");
    }
    assert_eq!(device_names(&mut client).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_may_be_as_long_as_the_host_has_them() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = |name: char| {
        let dir = server.dir().to_str().unwrap();
        format!("{dir}/{}", name.to_string().repeat(4095 - dir.len() - 1))
    };
    let xml = format!(
        "<domain><name>d</name><devices><parallel type='file'><source path='{}'/>\
         <log file='{}'/></parallel></devices></domain>",
        path('p'),
        path('l')
    );
    import(&mut client, &xml).await.unwrap();
    let all = export::What::Domain("d".into());
    let out = exported(&mut client, all, export::Flavor::Stored).await;
    assert!(out.contains(&path('p')) && out.contains(&path('l')), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_imports_checks_and_exports() {
    let server = Server::start();
    let file = server.dir().join("vm.xml");
    fs::write(&file, "<domain><name>vm</name><devices><serial/></devices></domain>").unwrap();
    let lineman = |arguments: &[&str]| {
        let mut command = server.lineman();
        command.args(["libvirt"]).args(arguments);
        run(command, "")
    };
    let path = file.to_str().unwrap();
    let checked = lineman(&["import", path, "--validate-only"]).await.ok();
    assert_eq!(checked, "devices/vm-serial0 would be created\n");
    assert_eq!(lineman(&["import", path]).await.ok(), "devices/vm-serial0 created\n");
    let second = lineman(&["import", path, "--domain", "other"]).await.ok();
    assert_eq!(second, "devices/other-serial0 created\n");
    let expected = "<serial type='pty'>\n  <target port='0'/>\n</serial>\n<console type='pty'>\n  \
                    <target type='serial' port='0'/>\n</console>\n";
    assert_eq!(lineman(&["export", "--domain", "vm"]).await.ok(), expected);
    assert_eq!(lineman(&["export", "vm-serial0"]).await.ok(), expected);
    assert!(lineman(&["export", "vm-serial0", "--live"]).await.ok().contains("/dev/pts/"));
    let again = lineman(&["import", path]).await.fails(5);
    assert!(again.contains("there is a device vm-serial0 already"), "{again}");

    fs::write(&file, format!("<serial/>{}", " ".repeat(300_000))).unwrap();
    let told = lineman(&["import", path, "--domain", "d"]).await.fails(65);
    assert!(told.starts_with(&format!("{path}:1:1: too-large: a server takes")), "{told}");
    fs::write(&file, "<serial type='nmdm'/>\n<serial type='x'/>").unwrap();
    let told = lineman(&["import", path, "--domain", "d"]).await.fails(65);
    assert!(told.starts_with(&format!("{path}:2:9: type-unknown: ")), "{told}");
    fs::write(&file, "<serial type='nmdm'/>").unwrap();
    let told = lineman(&["import", path, "--domain", "d"]).await.fails(65);
    assert!(told.starts_with(&format!("{path}:1:1: type-unsupported: nmdm")), "{told}");
}
