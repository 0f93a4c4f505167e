//! What a user would notice, tried on the real program: each test starts the
//! server as a process on a port of its own, and real far sides (QEMU with
//! U-Boot, ser2net, pyserial, openssl, telnet, socat, sockets) on the other end. A
//! module is a user story; `peers_work` tries the far sides by themselves.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on stops; what it measured or left out is printed"
)]

mod harness;

mod allow_lists;
mod attach_and_replay;
mod bad_input;
mod boot;
mod cli_session;
mod controls;
mod dev_mode;
mod devices;
mod domain_log;
mod eight_bit;
mod generic_client;
mod graceful_stop;
mod hostile_clients;
mod kill_and_resume;
mod libvirt_devices;
mod libvirt_round_trip;
mod libvirt_virsh;
mod libvirt_xml;
mod log_copy;
mod matrix_dev;
mod matrix_file;
mod matrix_null;
mod matrix_pipe;
mod matrix_pty;
mod matrix_tcp;
mod matrix_udp;
mod matrix_unix;
mod netconsole;
mod paused_reader;
mod peers_work;
mod reconnect;
mod rfc2217;
mod slow_attacher;
mod telnet_console;
mod text_and_scripts;
mod tidy;
mod tls_line;
mod upgrade_from_old_store;
mod watch_devices;
mod write_lock;
