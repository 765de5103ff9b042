//! The client: does what its standard input says, a line each.
//!
//! `connect ADDRESS COUNT` opens connections; `run FIRST END MICROSECONDS` and the words of [`Asked`] asks over some of
//! them in turn, for so long.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::work::Work;
use super::{Asked, DONE};

pub(super) fn main() -> Result<()> {
    let mut client = Client::default();
    for line in std::io::stdin().lines() {
        match client.follow(&line?) {
            Ok(()) => println!("{DONE}"),
            Err(error) => println!("{error:#}"),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Client {
    connections: Vec<TcpStream>,
    work: Work,
    buffer: Vec<u8>,
}

impl Client {
    fn follow(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["connect", address, count] => {
                let address: SocketAddr = address.parse()?;
                for _ in 0..count.parse::<usize>()? {
                    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
                    stream.set_nodelay(true)?;
                    self.connections.push(stream);
                }
                Ok(())
            }
            ["run", first, end, micros, ref asked @ ..] => {
                let asked: Vec<u32> = asked.iter().map(|word| Ok(word.parse()?)).collect::<Result<_>>()?;
                let asked = Asked::from_words(asked.try_into().ok().context("words are missing")?);
                let time = Duration::from_micros(micros.parse()?);
                self.run(first.parse()?..end.parse()?, time, asked)
            }
            _ => bail!("what is {line:?}?"),
        }
    }

    /// Asks over some connections in turn.
    fn run(&mut self, connections: Range<usize>, time: Duration, asked: Asked) -> Result<()> {
        let connections = self.connections.get_mut(connections).context("there are no such connections")?;
        self.buffer.resize(asked.request.max(asked.response) as usize, b'q');
        let (start, mut pace, mut next) = (Instant::now(), asked.pace(), 0);
        while start.elapsed() < time {
            next = (next + 1) % connections.len();
            let stream = &mut connections[next];
            self.buffer[..Asked::BYTES].copy_from_slice(&asked.to_bytes());
            stream.write_all(&self.buffer[..asked.request as usize])?;
            for _ in 0..asked.count {
                stream.read_exact(&mut self.buffer[..asked.response as usize])?;
                self.work.through(asked.kib);
            }
            // Who waits for many responses at a time is paced by the server.
            if asked.count <= 1 {
                pace.wait();
            }
            if asked.count == 0 {
                self.work.through(asked.kib);
            }
        }
        if asked.response == 0 {
            // What was sent is received, too.
            let last = Asked { request: Asked::BYTES as u32, response: 1, count: 1, kib: 0, ..asked };
            connections[0].write_all(&last.to_bytes())?;
            connections[0].read_exact(&mut self.buffer[..1])?;
        }
        Ok(())
    }
}
