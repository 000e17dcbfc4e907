//! HTTP, as much of it as the lab needs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::netns::Netns;

/// A server inside a namespace that answers every GET with the same body.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    netns: Netns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on an address of the namespace.
    ///
    /// # Errors
    /// The address is not there, or the port taken.
    pub fn start(netns: &Netns, address: Ipv4Addr, port: u16, body: Vec<u8>) -> Result<Server> {
        let address = SocketAddrV4::new(address, port);
        let listener =
            netns.enter(|| Ok(TcpListener::bind(address)?)).with_context(|| format!("listening on {address}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client that hangs up early has its reasons.
                let _ = answer(connection, &body);
            }
        });
        Ok(Server { address, netns: netns.clone(), stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes accept.
        let address = self.address;
        let _ = self.netns.enter(|| Ok(TcpStream::connect_timeout(&address.into(), Duration::from_secs(1))?));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut connection: TcpStream, body: &[u8]) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)?;
    Ok(())
}

/// Gets a page from inside a namespace; gives its body.
///
/// # Errors
/// No connection, a status other than 200, or a body shorter than announced.
pub fn get(from: &Netns, address: SocketAddrV4, path: &str) -> Result<Vec<u8>> {
    let what = || format!("GET http://{address}{path} from {}", from.short_name());
    let connect = || Ok(TcpStream::connect_timeout(&address.into(), Duration::from_secs(10))?);
    let mut connection = from.enter(connect).with_context(what)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").with_context(what)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).with_context(what)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").with_context(|| format!("{}: no header", what()))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.lines().next().unwrap_or_default().to_owned();
    ensure!(status.contains(" 200 "), "{}: {status}", what());
    let body = answer.split_off(end + 4);
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    ensure!(length.is_none_or(|n| n == body.len()), "{}: {} of {length:?} octets", what(), body.len());
    Ok(body)
}
