//! What a user would notice, tried on the real program: each test starts the
//! server as a process on a port of its own, and real far sides (QEMU with
//! U-Boot, socat, sockets) on the other end. A module is a user story.

mod harness;

mod attach_and_replay;
mod bad_input;
mod boot;
mod devices;
mod eight_bit;
mod graceful_stop;
mod hostile_clients;
mod kill_and_resume;
mod paused_reader;
mod reconnect;
mod slow_attacher;
mod text_and_scripts;
mod tidy;
mod upgrade_from_old_store;
mod watch_devices;
mod write_lock;
