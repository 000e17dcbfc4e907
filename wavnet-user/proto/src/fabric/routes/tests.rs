use std::{cell::Cell, cmp::Ordering};

use super::*;

thread_local! {
    static COMPARED: Cell<u32> = const { Cell::new(0) };
}

/// A key that counts how often it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted(u32);

impl Ord for Counted {
    fn cmp(&self, other: &Counted) -> Ordering {
        COMPARED.with(|compared| compared.set(compared.get() + 1));
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Counted) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn who_is_taken_out_costs_no_look_at_other_destinations() {
    let addr = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 + n);
    let mut routes = Routes::default();
    for n in 0..5_000 {
        routes.add(addr(n), Counted(n));
    }
    routes.add(addr(7), Counted(5_000));
    COMPARED.with(|compared| compared.set(0));
    routes.take_out(addr(7), Counted(7));
    let compared = COMPARED.with(Cell::get);
    assert!(compared < 200, "{compared} comparisons");
    assert!(!routes.take_dirty().contains(&Counted(7)));
    let mut out = VecDeque::new();
    routes.take_out(addr(8), Counted(8));
    routes.ask(&mut out, &Links::default(), None);
    let asks = |n| out.contains(&Command::QueryRoute { addr: addr(n), from: None });
    assert_eq!((asks(7), asks(8), asks(9)), (true, false, true), "somebody else is still there");
}
