//! Far sides that overdo it: one that never stops talking, and ones that do not
//! read.

use std::io;

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

/// A line of a flood: where it begins, in 15 hexadecimal digits, and an end.
const LINE: u64 = 16;

/// The bytes of a flood from one offset to another: each line tells its own
/// offset, so what is missing or doubled shows where.
pub(crate) fn flooded(from: u64, to: u64) -> Vec<u8> {
    let lines =
        (from / LINE..to.div_ceil(LINE)).flat_map(|n| format!("{:015x}\n", n * LINE).into_bytes());
    let skipped = usize::try_from(from % LINE).unwrap();
    lines.skip(skipped).take(usize::try_from(to - from).unwrap()).collect()
}

/// Says the first `len` bytes of a flood as fast as they are taken. Works on
/// anything: sockets, and a terminal by `tokio::fs::File`.
pub(crate) async fn flood(line: &mut (impl AsyncWrite + Unpin), len: u64) -> io::Result<()> {
    const PIECE: u64 = 64 * 1024;
    let mut said = 0;
    while said < len {
        let end = len.min(said + PIECE);
        line.write_all(&flooded(said, end)).await?;
        said = end;
    }
    line.flush().await
}

/// A listener, with its port, whose connections take in only a few KiB before
/// they are read, so that a far side that does not read is soon felt. (Unix
/// sockets and terminals are so by themselves: some 200 KiB and 4 KiB.)
pub(crate) fn narrow_listener() -> (TcpListener, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Set before listening, or the first window is wide already.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
