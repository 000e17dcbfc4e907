//! The agent's local API: requests and answers as lines of JSON over a Unix stream socket.
//!
//! [`model`] has the payloads, [`protocol`] the lines. [`Server`] turns lines into [`Call`]s that the agent's loop answers;
//! [`Client`] is what the operator's commands use.

mod client;
pub mod model;
pub mod protocol;
mod refusals;
mod server;
mod text;
mod words;

#[cfg(test)]
mod tests;

use tokio::sync::{broadcast, oneshot};

pub use client::{Client, ClientError};
use model::FdbEvent;
pub use protocol::{ErrorCode, FdbFilter, Refusal, Request, Response};
pub use server::{BindError, Limits, Server, check_group};
pub(crate) use words::brief;

/// What the agent's loop answers with.
#[derive(Debug)]
pub enum Answer {
    /// One response. Long lists are cut into lines by the server.
    One(Box<Response>),
    /// Events from now on, until the client hangs up (answer to [`Request::Watch`]).
    Events(broadcast::Receiver<FdbEvent>),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer::One(Box::new(response))
    }
}

/// A request on its way to the agent's loop. Dropping `reply` unanswered tells the client that the agent is stopping.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}
