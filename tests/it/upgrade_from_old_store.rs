//! A store that a newer version wrote is refused with what to do, and left as it
//! is.

use std::process::Output;

use crate::harness::{Server, pty};

fn serve(server: &Server, state: &std::path::Path) -> Output {
    let mut command = server.lineman();
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--state-dir"]).arg(state);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_store_is_refused_and_not_touched() {
    let mut server = Server::start();
    server.client().await.create("a", pty()).await;
    assert!(server.stop().await.success());
    let path = server.state_dir().join("devices.redb");
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
        transaction.commit().unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let output = serve(&server, &server.state_dir());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("has format 2") && error.contains("use the version that wrote it"),
        "{error}"
    );
    assert!(output.stdout.is_empty());
    assert!(std::fs::read(&path).unwrap() == before, "untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_state_folder() {
    let server = Server::start();
    let output = serve(&server, &server.state_dir());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("in use by another process"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_it_refuses_and_says_what_to_do() {
    let server = Server::start();
    let output = server.lineman().arg("serve").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--dev") && error.contains("--config"), "{error}");
    let output =
        server.lineman().args(["serve", "--dev", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
}
