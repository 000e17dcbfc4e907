//! The operator's side of the socket; blocking, for commands ask one thing and end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    model::FdbEvent,
    protocol::{Outcome, Refusal, Request, RequestLine, Response, ResponseLine, VERSION},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent is running on {}", .0.display())]
    NotRunning(PathBuf),
    /// The user may not write to the socket.
    #[error("you may not use the socket {}", .0.display())]
    Denied(PathBuf),
    /// The agent said no.
    #[error(transparent)]
    Refused(Refusal),
    /// What came back is no answer.
    #[error("the answer makes no sense: {0}")]
    Protocol(String),
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Longer than the agent takes before it gives up by itself.
const PATIENCE: Duration = Duration::from_secs(45);
/// No line of an answer is longer.
const LINE_MAX: u64 = 64 << 20;

impl Client {
    /// Connects to the agent's socket.
    ///
    /// # Errors
    /// Nobody listens, or permissions do not allow it.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(socket.to_owned()),
            io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
            _ => ClientError::Io(e),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// The agent refuses or goes away.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        let (mut response, mut more) = self.receive()?;
        while more {
            let (part, again) = self.receive()?;
            match (&mut response, part) {
                (Response::Fdb(all), Response::Fdb(part)) => all.extend(part),
                _ => return Err(ClientError::Protocol("parts of different answers".into())),
            }
            more = again;
        }
        Ok(response)
    }

    /// Asks for events and gives each to `each` until that returns false or the agent ends.
    ///
    /// # Errors
    /// The agent refuses, goes away, or finds this client too slow.
    pub fn watch(mut self, mut each: impl FnMut(FdbEvent) -> bool) -> Result<(), ClientError> {
        self.send(&Request::Watch)?;
        // Nothing may happen for as long as it likes.
        self.stream.get_ref().set_read_timeout(None)?;
        loop {
            match self.receive()? {
                (Response::Event(event), _) => {
                    if !each(event) {
                        return Ok(());
                    }
                }
                (other, _) => return Err(ClientError::Protocol(format!("expected an event, got {other:?}"))),
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let line = RequestLine { v: VERSION, request: request.clone() };
        let mut bytes = serde_json::to_vec(&line).map_err(|e| ClientError::Protocol(e.to_string()))?;
        bytes.push(b'\n');
        match self.stream.get_mut().write_all(&bytes) {
            // A server with too many clients answers before it is asked and hangs up: the answer says more than the error.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    fn receive(&mut self) -> Result<(Response, bool), ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side hung up").into());
        }
        let line: ResponseLine = serde_json::from_slice(&line).map_err(|e| ClientError::Protocol(e.to_string()))?;
        match line.outcome {
            Outcome::Ok(response) => Ok((response, line.more)),
            Outcome::Error(refusal) => Err(ClientError::Refused(refusal)),
        }
    }
}
