//! A TCP connection that carries numbered bytes, to run through whatever happens meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{netns::Netns, poll_until};

const PACE: Duration = Duration::from_millis(2);
const CHUNK: usize = 512;

/// A connection whose server echoes what it gets and whose client checks that the echo is what it sent, octet by octet.
/// Any reset, gap or corruption is an error that stays.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    what: String,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    verified: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Stream {
    /// Connects, and sends 512 octets every 2 ms from now on.
    ///
    /// # Errors
    /// No connection within ten seconds.
    pub fn start(server: &Netns, address: Ipv4Addr, client: &Netns) -> Result<Stream> {
        let listener = server.enter(|| Ok(TcpListener::bind((address, 0))?)).context("listening")?;
        let to = listener.local_addr()?;
        let connect = || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(10))?);
        let near = client.enter(connect).with_context(|| format!("connecting {} to {to}", client.short_name()))?;
        let (far, _) = listener.accept()?;
        let shared = Arc::new(Shared::default());
        for socket in [&near, &far] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            socket.set_write_timeout(Some(Duration::from_secs(60)))?;
        }
        let writer = near.try_clone()?;
        let threads = vec![
            work(&shared, "echo", move |s| echo(far, s)),
            work(&shared, "send", move |s| send(writer, s)),
            work(&shared, "check", move |s| check(near, s)),
        ];
        Ok(Stream { shared, threads, what: format!("{} -> {to}", client.short_name()) })
    }

    /// Octets that made the round trip so far.
    ///
    /// # Errors
    /// The connection broke.
    pub fn verified(&self) -> Result<u64> {
        let error = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner);
        match &*error {
            Some(error) => Err(anyhow!("TCP {}: {error}", self.what)),
            None => Ok(self.shared.verified.load(Ordering::Relaxed)),
        }
    }

    /// Waits until it makes progress by 16 KiB.
    ///
    /// # Errors
    /// It broke, or stands still.
    pub fn wait_progress(&self, timeout: Duration) -> Result<()> {
        let start = self.verified()?;
        let what = format!("TCP {} to go on", self.what);
        poll_until(&what, timeout, || {
            let now = self.verified()?;
            ensure!(now >= start + 16_384, "{} octets since then", now - start);
            Ok(())
        })
    }

    /// Ends it; gives how many octets made the round trip.
    ///
    /// # Errors
    /// It broke on the way.
    pub fn finish(self) -> Result<u64> {
        self.verified()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(
    shared: &Arc<Shared>,
    what: &'static str,
    body: impl FnOnce(&Shared) -> Result<()> + Send + 'static,
) -> JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || {
        let outcome = body(&shared);
        if let Err(error) = outcome
            && !shared.stop.load(Ordering::Relaxed)
        {
            let mut first = shared.error.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(format!("{what}: {error:#}"));
        }
    })
}

fn octet(position: u64) -> u8 {
    // 251 is prime: a shift by any power of two shows.
    (position % 251) as u8
}

fn send(mut socket: TcpStream, shared: &Shared) -> Result<()> {
    let mut position = 0u64;
    while !shared.stop.load(Ordering::Relaxed) {
        let chunk: Vec<u8> = (position..position + CHUNK as u64).map(octet).collect();
        socket.write_all(&chunk)?;
        position += CHUNK as u64;
        thread::sleep(PACE);
    }
    Ok(())
}

/// Reads once; `None` when nothing came for a moment.
fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>> {
    match socket.read(buffer) {
        Ok(0) => bail!("the other side closed the connection"),
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn echo(mut socket: TcpStream, shared: &Shared) -> Result<()> {
    let mut buffer = [0; 65_536];
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(n) = read(&mut socket, &mut buffer)? {
            socket.write_all(&buffer[..n])?;
        }
    }
    Ok(())
}

fn check(mut socket: TcpStream, shared: &Shared) -> Result<()> {
    let mut buffer = [0; 65_536];
    let mut position = 0u64;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(n) = read(&mut socket, &mut buffer)? else { continue };
        for byte in &buffer[..n] {
            ensure!(*byte == octet(position), "octet {position} is {byte}, not {}", octet(position));
            position += 1;
        }
        shared.verified.store(position, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends `bytes` one way as fast as it goes and checks that they arrive unchanged.
///
/// # Errors
/// No connection, a stall of ten seconds, or other bytes than were sent.
pub fn bulk(server: &Netns, address: Ipv4Addr, client: &Netns, bytes: u64) -> Result<()> {
    let listener = server.enter(|| Ok(TcpListener::bind((address, 0))?)).context("listening")?;
    let to: SocketAddr = listener.local_addr()?;
    let name = client.short_name();
    let mut near = client
        .enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(10))?))
        .with_context(|| format!("connecting {name} to {to}"))?;
    let (mut far, _) = listener.accept()?;
    far.set_read_timeout(Some(Duration::from_secs(10)))?;
    near.set_write_timeout(Some(Duration::from_secs(10)))?;
    let sender = thread::spawn(move || -> Result<()> {
        let pattern: Vec<u8> = (0..251 * 256).map(octet).collect();
        let mut left = bytes as usize;
        while left > 0 {
            let n = left.min(pattern.len());
            near.write_all(&pattern[..n])?;
            left -= n;
        }
        Ok(())
    });
    let mut position = 0u64;
    let mut buffer = vec![0; 65_536];
    loop {
        let n = far.read(&mut buffer).with_context(|| format!("{name} -> {to}: after {position} of {bytes} octets"))?;
        if n == 0 {
            break;
        }
        let wrong = buffer[..n].iter().zip(position..).find(|(b, p)| **b != octet(*p));
        ensure!(wrong.is_none(), "{name} -> {to}: octet {} is wrong", wrong.map_or(0, |w| w.1));
        position += n as u64;
    }
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    ensure!(position == bytes, "{name} -> {to}: {position} of {bytes} octets arrived");
    Ok(())
}
