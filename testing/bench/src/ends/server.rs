//! The server: a thread for each connection, all with one working set.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::Asked;
use super::work::Work;

pub(super) fn main(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?.port());
    let work = Mutex::new(Work::default());
    thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            // Ends with its connection.
            scope.spawn(|| serve(stream, &work));
        }
    })
}

/// Reads requests, works, and answers.
fn serve(mut stream: TcpStream, work: &Mutex<Work>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let mut head = [0; Asked::BYTES];
        stream.read_exact(&mut head)?;
        let asked = Asked::from_bytes(head);
        buffer.resize(asked.request.max(asked.response) as usize, b'r');
        stream.read_exact(&mut buffer[..asked.request as usize - Asked::BYTES])?;
        let mut pace = asked.pace();
        for sent in 0..asked.count.max(1) {
            work.lock().unwrap_or_else(PoisonError::into_inner).through(asked.kib);
            if sent > 0 {
                pace.wait();
            }
            if asked.count > 0 {
                stream.write_all(&buffer[..asked.response as usize])?;
            }
        }
    }
}
