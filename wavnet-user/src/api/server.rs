//! The agent's side of the socket.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, broadcast::error::RecvError, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Answer, Call,
    protocol::{ErrorCode, Outcome, Refusal, Request, RequestLine, Response, ResponseLine, VERSION},
    refusals::Refusals,
};

/// What a client may take, so that a bad one cannot hurt.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request, newline included.
    pub line: u64,
    /// Clients at once.
    pub connections: usize,
    /// How long a client may take for its next request, or to take a line of an answer.
    pub idle: Duration,
    /// How long the agent's loop may take for an answer.
    pub answer: Duration,
    /// Entries of a list in one line of an answer.
    pub part: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line: 64 * 1024,
            connections: 64,
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            part: 1000,
        }
    }
}

/// How often it is looked whether the socket's file is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("{} is in use: another agent or rendezvous server is running there", .0.display())]
    InUse(PathBuf),
    /// There is something else in its place.
    #[error("{} exists and is no socket: remove it, or choose another run_dir", .0.display())]
    NotASocket(PathBuf),
    /// No such group.
    #[error("there is no group {0} on this host: create it, or change socket_group")]
    Group(String),
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The socket, listening. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// Of the socket's file.
    inode: u64,
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
    limits: Limits,
}

impl Server {
    /// Makes the socket with its directory, permissions and group. The socket that a killed agent left is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path, mode: u32, group: Option<&str>) -> Result<Server, BindError> {
        let group = group.map(group_id).transpose()?;
        let (listener, inode) = listen(path, mode, group)?;
        Ok(Server { listener, inode, path: path.to_owned(), mode, group, limits: Limits::default() })
    }

    /// With other limits than the default ones.
    pub fn with_limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self
    }

    /// Serves clients until the future is dropped, which cuts off those that are connected, or until `calls` is closed.
    pub async fn run(mut self, calls: mpsc::Sender<Call>) {
        info!(socket = %self.path.display(), "local API ready");
        let (mut refused, mut failed) = (Refusals::default(), Refusals::default());
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut clients = JoinSet::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                _ = look.tick() => {
                    self.restore();
                    continue;
                }
                accepted = self.listener.accept() => accepted,
                () = calls.closed() => break,
                Some(_) = clients.join_next() => continue,
                () = refused.due() => {
                    self.tell_refused(refused.take(Instant::now()));
                    continue;
                }
            };
            match (accepted, Arc::clone(&slots).try_acquire_owned()) {
                (Ok((stream, _)), Ok(slot)) => {
                    let client = Connection { calls: calls.clone(), limits: self.limits };
                    clients.spawn(async move {
                        if let Err(e) = client.serve(stream).await {
                            debug!(error = %e, "a client of the local API was cut off");
                        }
                        drop(slot);
                    });
                }
                (Ok((stream, _)), Err(_)) => {
                    self.tell_refused(refused.one_more(Instant::now()));
                    let busy = Refusal::new(ErrorCode::Busy, "too many clients at once").with_help("try again later");
                    // The socket's buffer takes this line; a client that does not want it loses nothing.
                    let _ = stream.try_write(&line(&ResponseLine::refused(busy)));
                }
                (Err(e), _) => {
                    // Out of descriptors, as a rule: give others time to return some.
                    if let Some(times) = failed.one_more(Instant::now()) {
                        warn!(error = %e, times, "cannot accept a client of the local API");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // What was answered reaches its client, even when the agent ends with this answer.
        let _ = timeout(Duration::from_secs(1), async { while clients.join_next().await.is_some() {} }).await;
    }

    fn tell_refused(&self, refused: Option<u64>) {
        if let Some(refused) = refused {
            warn!(limit = self.limits.connections, refused, "too many clients of the local API");
        }
    }
}

impl Server {
    /// Makes the socket anew if somebody has removed it: nobody could reach the agent any more.
    fn restore(&mut self) {
        if fs::symlink_metadata(&self.path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            let socket = self.path.display();
            match listen(&self.path, self.mode, self.group) {
                Ok((listener, inode)) => {
                    warn!(%socket, "somebody removed the socket: it is there again");
                    (self.listener, self.inode) = (listener, inode);
                }
                Err(e) => debug!(%socket, "the socket is gone: {:#}", anyhow::Error::from(e)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if is_ours && let Err(e) = fs::remove_file(&self.path) {
            debug!(socket = %self.path.display(), error = %e, "cannot remove the socket");
        }
    }
}

/// A new socket, and the inode of its file.
fn listen(path: &Path, mode: u32, group: Option<u32>) -> Result<(UnixListener, u64), BindError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| BindError::Io { doing, path, source }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io("create the directory", dir))?;
    }
    remove_stale(path)?;
    // Under another name first: under its own it never has other permissions than those asked for.
    let early = path.with_extension("new");
    match fs::remove_file(&early) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("remove", &early)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&early).map_err(io("create the socket", &early))?;
    fs::set_permissions(&early, fs::Permissions::from_mode(mode)).map_err(io("set permissions of", &early))?;
    if group.is_some() {
        chown(&early, None, group).map_err(io("set the group of", &early))?;
    }
    let inode = fs::symlink_metadata(&early).map_err(io("examine", &early))?.ino();
    fs::rename(&early, path).map_err(io("create the socket", path))?;
    Ok((listener, inode))
}

fn group_id(name: &str) -> Result<u32, BindError> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => name.parse().map_err(|_| BindError::Group(name.to_owned())),
    }
}

/// Whether a socket can belong to this group.
///
/// # Errors
/// [`BindError::Group`].
pub fn check_group(name: &str) -> Result<(), BindError> {
    group_id(name).map(drop)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt;
    let io = |doing, source| BindError::Io { doing, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io("examine", e)),
        Ok(m) if !m.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| io("remove the stale socket", e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io("examine", e)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

impl ResponseLine {
    fn refused(refusal: Refusal) -> ResponseLine {
        ResponseLine { v: VERSION, more: false, outcome: Outcome::Error(refusal) }
    }

    fn part(response: Response, more: bool) -> ResponseLine {
        ResponseLine { v: VERSION, more, outcome: Outcome::Ok(response) }
    }
}

fn line(response: &ResponseLine) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(response).unwrap_or_else(|e| {
        // Every payload is maps with text keys, numbers and text; still, a client must never wait for nothing.
        format!(r#"{{"v":{VERSION},"error":{{"code":"failed","message":"cannot write the answer: {e}"}}}}"#).into()
    });
    bytes.push(b'\n');
    bytes
}

struct Connection {
    calls: mpsc::Sender<Call>,
    limits: Limits,
}

impl Connection {
    async fn serve(self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let mut limited = (&mut read).take(self.limits.line);
            let reading = timeout(self.limits.idle, limited.read_until(b'\n', &mut buffer));
            // An agent that ends does not wait for idle clients.
            let got = tokio::select! {
                got = reading => got??,
                () = self.calls.closed() => return Ok(()),
            };
            if got == 0 {
                return Ok(());
            }
            if buffer.last() != Some(&b'\n') && got as u64 == self.limits.line {
                let message = format!("a request has at most {} bytes", self.limits.line);
                return self
                    .send(&mut write, ResponseLine::refused(Refusal::new(ErrorCode::BadRequest, message)))
                    .await;
            }
            if buffer.trim_ascii().is_empty() {
                continue;
            }
            match RequestLine::parse(&buffer) {
                Err(refusal) => self.send(&mut write, ResponseLine::refused(refusal)).await?,
                Ok(request) => match self.ask(request).await {
                    Err(refusal) => self.send(&mut write, ResponseLine::refused(refusal)).await?,
                    Ok(Answer::One(response)) => self.send_parts(&mut write, *response).await?,
                    Ok(Answer::Events(events)) => return self.watch(&mut read, &mut write, events).await,
                },
            }
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        if request.is_change() {
            info!("asked over the local API: {request}");
        } else {
            debug!("asked over the local API: {request}");
        }
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::new(ErrorCode::Stopping, "the agent is stopping");
        let asked = async {
            self.calls.send(Call { request, reply }).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())?
        };
        timeout(self.limits.answer, asked).await.unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::Busy, format!("the agent did not answer within {:?}", self.limits.answer))
                .with_help("look at the agent's log; `wavnet status` shows what it is doing when it answers again"))
        })
    }

    async fn send(&self, write: &mut OwnedWriteHalf, response: ResponseLine) -> io::Result<()> {
        timeout(self.limits.idle, write.write_all(&line(&response))).await?
    }

    async fn send_parts(&self, write: &mut OwnedWriteHalf, response: Response) -> io::Result<()> {
        let Response::Fdb(entries) = response else {
            return self.send(write, ResponseLine::part(response, false)).await;
        };
        let mut entries = entries.into_iter().peekable();
        loop {
            let part: Vec<_> = entries.by_ref().take(self.limits.part.max(1)).collect();
            let more = entries.peek().is_some();
            self.send(write, ResponseLine::part(Response::Fdb(part), more)).await?;
            if !more {
                return Ok(());
            }
        }
    }

    async fn watch(
        &self,
        read: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
        write: &mut OwnedWriteHalf,
        mut events: tokio::sync::broadcast::Receiver<super::model::FdbEvent>,
    ) -> io::Result<()> {
        let mut hang_up = [0];
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.send(write, ResponseLine::part(Response::Event(event), true)).await?,
                    Err(RecvError::Lagged(lost)) => {
                        let message = format!("{lost} events were lost: the client is too slow");
                        return self.send(write, ResponseLine::refused(Refusal::new(ErrorCode::Busy, message))).await;
                    }
                    Err(RecvError::Closed) => {
                        let message = "the agent is stopping";
                        return self.send(write, ResponseLine::refused(Refusal::new(ErrorCode::Stopping, message))).await;
                    }
                },
                // Whatever a watching client sends, it is done watching.
                _ = read.read(&mut hang_up) => return Ok(()),
            }
        }
    }
}
