//! Questions to the kernel's routing that wait for their answers: each once, however often the tables ask before netlink gets to it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use wavnet_proto::command::Command;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<Command>,
    /// Routes that are asked for in there: to where, and from where.
    routes: BTreeSet<(Ipv4Addr, Option<Ipv4Addr>)>,
    /// Whether the last word about a neighbour in there is that it is needed. Two different ones are both kept, in their order.
    neighbours: BTreeMap<(u32, Ipv4Addr), bool>,
    closed: bool,
}

impl Questions {
    /// One more, unless it is there.
    pub(super) fn push(&mut self, question: Command) {
        let is_new = match &question {
            Command::QueryRoute { addr, from } => self.routes.insert((*addr, *from)),
            Command::ResolveNeighbour { ifindex, addr } => {
                self.neighbours.insert((*ifindex, *addr), true) != Some(true)
            }
            Command::ForgetNeighbour { ifindex, addr } => {
                self.neighbours.insert((*ifindex, *addr), false) != Some(false)
            }
            _ => true,
        };
        if is_new && !self.closed {
            self.waiting.push_back(question);
        }
    }

    /// The next one, which may be asked anew from now on.
    pub(super) fn pop(&mut self) -> Option<Command> {
        let question = self.waiting.pop_front()?;
        match &question {
            Command::QueryRoute { addr, from } => _ = self.routes.remove(&(*addr, *from)),
            Command::ResolveNeighbour { ifindex, addr } => self.is_asked((*ifindex, *addr), true),
            Command::ForgetNeighbour { ifindex, addr } => self.is_asked((*ifindex, *addr), false),
            _ => {}
        }
        Some(question)
    }

    fn is_asked(&mut self, neighbour: (u32, Ipv4Addr), needed: bool) {
        if self.neighbours.get(&neighbour) == Some(&needed) {
            self.neighbours.remove(&neighbour);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nobody asks them, nor any that are to come.
    pub(super) fn close(&mut self) {
        *self = Questions { closed: true, ..Questions::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn route(n: u8, from: Option<Ipv4Addr>) -> Command {
        Command::QueryRoute { addr: Ipv4Addr::new(198, 51, 100, n), from }
    }

    fn all(questions: &mut Questions) -> Vec<Command> {
        std::iter::from_fn(|| questions.pop()).collect()
    }

    #[test]
    fn each_waits_once_and_may_be_asked_again_afterwards() {
        let mut questions = Questions::default();
        for _ in 0..1000 {
            (0..3).for_each(|n| questions.push(route(n, None)));
            questions.push(Command::ResolveNeighbour { ifindex: 2, addr: HOP });
        }
        questions.push(route(0, Some(HOP)));
        assert_eq!(questions.pop(), Some(route(0, None)));
        questions.push(route(0, None));
        let resolve = Command::ResolveNeighbour { ifindex: 2, addr: HOP };
        assert_eq!(
            all(&mut questions),
            [route(1, None), route(2, None), resolve.clone(), route(0, Some(HOP)), route(0, None)]
        );
        questions.push(resolve.clone());
        assert_eq!(all(&mut questions), [resolve]);
    }

    #[test]
    fn the_last_word_about_a_neighbour_stays_the_last() {
        let (mut questions, addr, ifindex) = (Questions::default(), HOP, 2);
        let (needed, not) = (Command::ResolveNeighbour { ifindex, addr }, Command::ForgetNeighbour { ifindex, addr });
        for question in [&needed, &not, &not, &needed, &needed] {
            questions.push(question.clone());
        }
        assert_eq!(all(&mut questions), [needed.clone(), not, needed]);
    }

    #[test]
    fn what_nobody_asks_is_not_kept() {
        let mut questions = Questions::default();
        questions.push(route(1, None));
        questions.close();
        (0..100).for_each(|n| questions.push(route(n, None)));
        assert!(questions.is_empty() && questions.pop().is_none());
    }
}
