//! Whatever happens, in any order.

use std::time::Duration;

use proptest::prelude::*;
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::engine::Input;
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading};
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::readings::handed_over;

use super::{DAY, HOUR, Sent, World, status};

/// What may happen to an installation at any moment.
#[derive(Clone, Debug)]
enum Happening {
    Run(u32),
    Suspend(u32),
    Step(i64),
    Crash,
    Reset,
    Switch(bool),
    Disk(bool),
    Pulse(u8),
    Endpoint(u16),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (1_u32..200_000).prop_map(Happening::Run),
        1 => (1_u32..2_000_000).prop_map(Happening::Suspend),
        1 => (-5_000_000_i64..5_000_000).prop_map(Happening::Step),
        2 => Just(Happening::Crash),
        1 => Just(Happening::Reset),
        1 => any::<bool>().prop_map(Happening::Switch),
        1 => any::<bool>().prop_map(Happening::Disk),
        2 => (0_u8..6).prop_map(Happening::Pulse),
        2 => prop_oneof![Just(204), Just(503), Just(400), Just(0)].prop_map(Happening::Endpoint),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Off, the contract, the ledger's order, the ID's age and the wake's bounds are checked at every step by `World`;
    /// here, that no reset ID comes back and that heartbeats keep their distance.
    #[test]
    fn whatever_happens_the_invariants_hold(happenings in happenings()) {
        let mut world = World::new();
        let mut reset = Vec::new();
        let mut starts = vec![0];
        for happening in happenings {
            match happening {
                Happening::Run(seconds) => world.run_for(Duration::from_secs(seconds.into())),
                Happening::Suspend(seconds) => {
                    world.pass(Duration::from_secs(seconds.into()));
                    world.feed(Input::Tick);
                }
                Happening::Step(seconds) => world.step_clock(seconds),
                Happening::Crash => {
                    world.crash_and_start();
                    starts.push(world.sent.len());
                }
                Happening::Reset => {
                    let old = world.identity.clone();
                    world.feed(Input::Reset);
                    if let (true, Some(old)) = (world.disk_works, old) {
                        reset.push((old.install_id, world.sent.len()));
                    }
                }
                Happening::Switch(off) => world.feed(Input::Switch { off }),
                Happening::Disk(works) => world.disk_works = works,
                Happening::Pulse(kind) => {
                    world.pulse = match kind {
                        0 => Err(ReadError::Unauthorized(Credential::default())),
                        1 => Err(ReadError::Unreachable("timed out".to_owned())),
                        _ => Ok(handed_over()),
                    };
                    if let Ok(Reading { gate, .. }) = &mut world.pulse {
                        gate.mock_mode = Ok(kind == 2);
                        gate.own_sender =
                            Ok(if kind == 3 { OwnSender::OffBySetting } else { OwnSender::OffByEnvironment });
                    }
                }
                Happening::Endpoint(0) => world.answer_otherwise = Some(Answer::TimedOut),
                Happening::Endpoint(code) => world.answer_otherwise = Some(status(code)),
            }
        }
        for (id, from) in reset {
            prop_assert!(world.sent[from..].iter().all(|sent| sent.id() != id), "{} came back", id);
        }
        starts.push(world.sent.len());
        for process in starts.windows(2) {
            let mut built: Vec<&Sent> = Vec::new();
            for sent in world.sent[process[0]..process[1]].iter().filter(|sent| sent.event() == "heartbeat") {
                if built.last().is_none_or(|last| last.body != sent.body) {
                    built.push(sent);
                }
            }
            for pair in built.windows(2).filter(|pair| pair[0].id() == pair[1].id()) {
                let apart = pair[1].at.mono - pair[0].at.mono;
                prop_assert!(apart >= DAY - HOUR / 2, "two heartbeats {:?} apart", apart);
            }
        }
    }
}
