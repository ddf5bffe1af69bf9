// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which services of a scenario do nothing but watch, so that a simpler program can be in their place.

use super::{Action, Scenario, Service};
use crate::orders::Order;
use loadgen::messages::PROVIDERS;
use std::collections::BTreeSet;

impl Scenario {
    /// The names of the services that only watch what the load generator tells, and give it commands.
    pub(crate) fn watchers(&self) -> BTreeSet<String> {
        let (mut watching, mut others) = (BTreeSet::new(), BTreeSet::new());
        for step in self.steps() {
            match &step.action {
                Action::Service(service) if !is_plain(service) => {
                    others.insert(service.name.clone());
                    others.extend(service.parent.clone());
                }
                Action::Order(name, Order::Subscribe { .. }) if watches(&step.action) => {
                    watching.insert(name.clone());
                }
                Action::Order(name, _) if !watches(&step.action) => {
                    others.insert(name.clone());
                }
                _ => {}
            }
        }
        watching.difference(&others).cloned().collect()
    }
}

fn is_plain(service: &Service) -> bool {
    service.stream.is_none() && service.watch.is_none() && service.parent.is_none()
}

/// Whether this is a watcher's order, or one that another connection can carry out for it.
fn watches(action: &Action) -> bool {
    let Action::Order(_, order) = action else {
        return true;
    };
    match order {
        Order::Subscribe {
            provider,
            decide,
            filter,
            muted,
            ..
        } => {
            let is_known = PROVIDERS.iter().any(|known| known.name == provider);
            is_known && decide.is_empty() && filter.is_none() && !muted
        }
        Order::See { .. }
        | Order::Take(_)
        | Order::Leave
        | Order::Usage { .. }
        | Order::Refusals
        | Order::Audit { .. }
        | Order::Register(_)
        | Order::RegisterWrong { .. }
        | Order::Start { .. }
        | Order::Finish { .. }
        | Order::Echo { .. }
        | Order::Fault { .. }
        | Order::Statistics
        | Order::Send { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::language;

    fn watchers(steps: &str) -> Vec<String> {
        let text = format!("about a test\nstart fltport\n{steps}");
        let scenario = language::read("test", "test", &text).unwrap();
        scenario.watchers().into_iter().collect()
    }

    #[test]
    fn who_only_watches_is_told_from_who_does_more() {
        let steps = "service a\na subscribes observe=tick\na sees expect ticks=1\n\
                     service b\nb subscribes decide=question\n\
                     service c stream=s\nc subscribes observe=tick\n\
                     service d\nd audits\n\
                     service e\ne subscribes observe=tick\ne mutes";
        assert_eq!(watchers(steps), ["a"]);
    }
}
