//! Clients that were never built for Lineman use it: what they know they learn
//! from the server, in another implementation of gRPC and of TLS than ours.

use std::{path::PathBuf, process::Command};

use crate::harness::{Background, FarSide, Server, pty, run, tool};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_that_knows_only_reflection_uses_everything() {
    let Some(python) = tool("venv/bin/python") else { return };
    let server = Server::start();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/generic_client.py"));
    command.arg(server.address()).arg(server.ca_file()).arg(server.token_file());
    let mut client = Background::spawn(command, server.dir(), "generic_client");

    let line = client.prints(&["pty"]).await;
    let mut far_side = FarSide::open(line.trim().strip_prefix("pty ").unwrap());
    far_side.says(b"Gr\xc3\xbc\xc3\x9fe\r\n\xff\xe2\x82");
    far_side.hears("versión\r").await;
    far_side.says("U-Boot\r\n");
    assert_eq!(client.ended().await, 0, "{}", client.stderr());
}

/// `buf curl` finds its way as grpcurl does, which the server's first words and
/// the README recommend.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_client_calls_by_reflection() {
    let Some(buf) = tool("node/node_modules/.bin/buf") else { return };
    let server = Server::start();
    let recommended = server.ready().last().unwrap();
    assert!(recommended.contains("/ListDevices") && recommended.contains(server.address()));
    server.client().await.create("curled", pty()).await;
    let authorization = format!("authorization: Bearer {}", server.token());

    let command = curl(&buf, &server, &["--reflect-header", &authorization, "--list-services"], "");
    let services = run(command, "").await.ok();
    for service in ["DeviceService", "ConsoleService"] {
        assert!(services.contains(&format!("lineman.v1.{service}")), "{services}");
    }

    const LIST: &str = "/lineman.v1.DeviceService/ListDevices";
    let headers = ["--header", &authorization, "--reflect-header", "*"];
    let list = run(curl(&buf, &server, &headers, LIST), "").await.ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["devices"][0]["name"], "devices/curled", "{list}");

    // Its exit code is 8 times the code of gRPC, here UNAUTHENTICATED.
    let reflection_only = ["--reflect-header", &authorization];
    let refused = run(curl(&buf, &server, &reflection_only, LIST), "").await.fails(16 * 8);
    assert!(refused.contains("unauthenticated"), "{refused}");
}

fn curl(buf: &PathBuf, server: &Server, flags: &[&str], path: &str) -> Command {
    let mut command = Command::new(buf);
    // Nothing of its user, and no folder with a schema that it could use instead.
    command.env("HOME", server.dir()).current_dir(server.dir());
    command.args(["curl", "--protocol", "grpc", "--cacert"]).arg(server.ca_file());
    command.args(flags).arg(format!("https://{}{path}", server.address()));
    command
}
