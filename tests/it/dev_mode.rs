//! `lineman serve --dev`: what it prints can be pasted, what it makes is private
//! and kept.

use std::{os::unix::fs::PermissionsExt, process::Command};

use crate::harness::{LINEMAN, Server, pty};

#[tokio::test(flavor = "multi_thread")]
async fn what_it_prints_can_be_pasted() {
    let mut server = Server::start();
    server.client().await.create("a", pty()).await;
    let said = server.ready().join("\n");
    let (ca, token) = (server.ca_file(), server.state_dir().join("dev/admin.token"));
    for told in [server.address(), ca.to_str().unwrap(), token.to_str().unwrap(), "context \"dev\""]
    {
        assert!(said.contains(told), "{told} in {said}");
    }
    assert!(!said.contains(&server.token()), "the token itself is not shown");

    // The line for lineman, as a shell runs it.
    let line = server.ready().iter().find(|line| line.trim().starts_with("lineman get ")).unwrap();
    let line = line.replace("lineman", LINEMAN);
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    shell.env("XDG_CONFIG_HOME", server.dir().join("config"));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("CONNECTED"));

    for entry in std::fs::read_dir(server.state_dir().join("dev")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    let before = (std::fs::read(&ca).unwrap(), server.token());
    assert!(server.stop().await.success());
    server.start_again();
    assert_eq!((std::fs::read(&ca).unwrap(), server.token()), before);
}
