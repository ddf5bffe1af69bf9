// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which order locks are taken. Whoever takes a lock while holding another one draws an edge
//! from the held one to the new one; an edge that would close a circle is two threads that may
//! wait for each other for ever, found without either of them ever having to wait.
//!
//! An outer lock that all who draw the edges of a circle hold is not taken into account: the circle
//! is reported though none of them can wait. It is safe only for as long as nobody forgets that lock.
//!
//! A node is an address. When a lock is initialised again or its memory is freed, what was learnt
//! of it is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::stack::Stack;
use crate::thread::LockKind;

/// A lock, by where it lies and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub address: usize,
    pub kind: LockKind,
}

/// One lock taken while another one was held.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub held: Lock,
    pub taken: Lock,
    /// The thread that did it first.
    pub thread: u64,
    /// Where it took the second lock.
    pub stack: Stack,
}

/// The order in which the locks of one kernel were taken. Never contains a circle.
#[derive(Default)]
pub(crate) struct Order {
    /// By the lock held, then by the lock taken.
    edges: BTreeMap<usize, BTreeMap<usize, Edge>>,
    /// Pairs that a report was made of.
    reported: BTreeSet<(usize, usize)>,
    /// Every address that occurs above.
    nodes: BTreeMap<usize, LockKind>,
}

impl Order {
    /// Whether it is known already what becomes of taking `taken` with `held` held.
    pub(crate) fn is_known(&self, held: Lock, taken: Lock) -> bool {
        let known = self.edges.get(&held.address);
        known.is_some_and(|known| known.contains_key(&taken.address))
            || self.reported.contains(&(held.address, taken.address))
    }

    /// Which kind of lock lies at an address, if it was ever taken together with another one.
    pub(crate) fn kind_at(&self, address: usize) -> Option<LockKind> {
        self.nodes.get(&address).copied()
    }

    /// Adds an edge. If it would close a circle, it is not added: the circle's other edges are
    /// returned, the one that leaves the lock now taken first.
    pub(crate) fn add(&mut self, edge: Edge) -> Option<Vec<Edge>> {
        let (held, taken) = (edge.held.address, edge.taken.address);
        let mut path = Vec::new();
        self.nodes.insert(held, edge.held.kind);
        self.nodes.insert(taken, edge.taken.kind);
        if self.walk(taken, held, &mut BTreeSet::new(), &mut path) {
            self.reported.insert((held, taken));
            return Some(path);
        }
        self.edges.entry(held).or_default().insert(taken, edge);
        None
    }

    /// Finds a way along the edges; `path` then holds it.
    fn walk(
        &self,
        from: usize,
        to: usize,
        seen: &mut BTreeSet<usize>,
        path: &mut Vec<Edge>,
    ) -> bool {
        let mut open = vec![(from, path.len(), None::<&Edge>)];
        while let Some((at, depth, edge)) = open.pop() {
            path.truncate(depth);
            path.extend(edge.cloned());
            if at == to {
                return true;
            }
            if !seen.insert(at) {
                continue;
            }
            let next = self.edges.get(&at).into_iter().flatten();
            open.extend(next.map(|(address, edge)| (*address, path.len(), Some(edge))));
        }
        false
    }

    /// Forgets what was learnt of the locks within a range of memory.
    pub(crate) fn forget(&mut self, range: &Range<usize>) {
        let gone: Vec<usize> = self.nodes.range(range.clone()).map(|(at, _)| *at).collect();
        if gone.is_empty() {
            return;
        }
        for address in gone {
            self.nodes.remove(&address);
            self.edges.remove(&address);
        }
        for taken in self.edges.values_mut() {
            taken.retain(|address, _| !range.contains(address));
        }
        self.edges.retain(|_, taken| !taken.is_empty());
        self.reported
            .retain(|(a, b)| !range.contains(a) && !range.contains(b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(address: usize) -> Lock {
        Lock {
            address,
            kind: LockKind::SpinLock,
        }
    }

    fn edge(held: usize, taken: usize) -> Edge {
        Edge {
            held: lock(held),
            taken: lock(taken),
            thread: 1,
            stack: Stack::default(),
        }
    }

    fn way(path: Option<Vec<Edge>>) -> Vec<(usize, usize)> {
        let edges = path.unwrap_or_default();
        edges
            .iter()
            .map(|edge| (edge.held.address, edge.taken.address))
            .collect()
    }

    #[test]
    fn the_circle_is_named_edge_by_edge() {
        let mut order = Order::default();
        for (held, taken) in [(1, 2), (2, 9), (2, 3), (9, 8), (3, 4), (1, 4)] {
            assert!(order.add(edge(held, taken)).is_none());
        }
        assert_eq!(way(order.add(edge(4, 1))), [(1, 4)]);
        assert_eq!(way(order.add(edge(4, 2))), [(2, 3), (3, 4)]);
        assert!(order.is_known(lock(4), lock(1)), "reported once");
        assert!(!order.is_known(lock(4), lock(9)));
    }

    #[test]
    fn what_is_freed_is_forgotten() {
        let mut order = Order::default();
        order.add(edge(10, 20));
        order.add(edge(20, 30));
        order.forget(&(15..25));
        assert!(order.add(edge(30, 10)).is_none(), "20 was on the way");
        assert_eq!(way(order.add(edge(10, 30))), [(30, 10)]);
    }
}
