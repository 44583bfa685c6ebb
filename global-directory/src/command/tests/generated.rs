//! Generated commands, most of them sensible: after each the invariants hold, a retry answers the same and
//! changes nothing, and a lost transaction leaves no trace.

use super::*;
use proptest::prelude::*;
use types::{MoveCause, MoveId, NodeRow};

const NODES: [&str; 5] = ["ap-south-1", "eu-west-1", "eu-west-2", "us-east-1", "us-east-2"];

#[derive(Debug, Clone)]
enum Step {
    Register { node: usize, new_store: bool },
    Bump { nodes: u8 },
    Promote { partition: u32, member: usize, start_lsn: u64, stale: bool },
    ClearWaiting { first_only: bool },
    AssignHomes { node: usize },
    AddReplica { partition: u32, node: usize },
    DropReplica { partition: u32, copy: usize },
    Retire { node: usize, keep: bool },
    RetireRegion,
    FinishRetirement,
    Propose { partition: u32, members: u8, lost: u8, stale: bool },
    Pin { key: u8, region: usize },
    BeginMove { partition: u32, member: usize },
    FinishMove { partition: u32, seal: u64, stale: bool },
    AbortMove { partition: u32, stale: bool },
    Drain { region: usize, on: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..6u32;
    let node = 0..NODES.len();
    prop_oneof![
        3 => (node.clone(), prop::bool::weighted(0.2))
            .prop_map(|(node, new_store)| Step::Register { node, new_store }),
        2 => any::<u8>().prop_map(|nodes| Step::Bump { nodes }),
        6 => (partition.clone(), 0..3usize, 0..4u64, prop::bool::weighted(0.1)).prop_map(
            |(partition, member, start_lsn, stale)| Step::Promote { partition, member, start_lsn, stale }
        ),
        2 => any::<bool>().prop_map(|first_only| Step::ClearWaiting { first_only }),
        3 => node.clone().prop_map(|node| Step::AssignHomes { node }),
        4 => (partition.clone(), node.clone())
            .prop_map(|(partition, node)| Step::AddReplica { partition, node }),
        4 => (partition.clone(), 0..5usize).prop_map(|(partition, copy)| Step::DropReplica { partition, copy }),
        1 => (node, any::<bool>()).prop_map(|(node, keep)| Step::Retire { node, keep }),
        1 => prop::bool::weighted(0.1)
            .prop_map(|region| if region { Step::RetireRegion } else { Step::FinishRetirement }),
        6 => (partition, any::<u8>(), any::<u8>(), prop::bool::weighted(0.1)).prop_map(
            |(partition, members, lost, stale)| Step::Propose { partition, members, lost, stale }
        ),
        1 => (any::<u8>(), 0..3usize).prop_map(|(key, region)| Step::Pin { key, region }),
        4 => (0..6u32, 0..3usize).prop_map(|(partition, member)| Step::BeginMove { partition, member }),
        4 => (0..6u32, 0..4u64, prop::bool::weighted(0.1))
            .prop_map(|(partition, seal, stale)| Step::FinishMove { partition, seal, stale }),
        2 => (0..6u32, prop::bool::weighted(0.1)).prop_map(|(partition, stale)| Step::AbortMove { partition, stale }),
        1 => (0..3usize, any::<bool>()).prop_map(|(region, on)| Step::Drain { region, on }),
    ]
}

/// Makes a command of a step, on top of what the rows hold.
fn command_of(step: &Step, directory: &Directory, stores: &mut [u8; 5]) -> Option<Command> {
    let view = &directory.view;
    let known = |name: &str| view.node(&node(name));
    let boot = |row: &NodeRow| Home { node: row.node.clone(), incarnation: row.incarnation };
    Some(match *step {
        Step::Register { node, new_store } => {
            stores[node] += u8::from(new_store);
            Command::Register(registration(NODES[node], stores[node]))
        }
        Step::Bump { nodes } => {
            let chosen = NODES.iter().enumerate().filter(|(index, _)| nodes & (1 << index) != 0);
            Command::Bump(chosen.filter_map(|(_, name)| known(name)).map(boot).collect())
        }
        Step::Promote { partition, member, start_lsn, stale } => {
            let row = directory.row(partition);
            let node = view.node(&row.isr.get(member)?.node)?;
            Command::Promote(vec![Promotion {
                partition: row.partition,
                epoch: if stale { row.epoch.prev() } else { row.epoch },
                home: boot(node),
                start_lsn: Lsn::new((row.start_lsn().get() + start_lsn).saturating_sub(1)),
            }])
        }
        Step::ClearWaiting { first_only } => {
            let waiting = view.partitions().flat_map(|row| row.waiting.iter().cloned());
            Command::ClearWaiting(waiting.take(if first_only { 1 } else { usize::MAX }).collect())
        }
        Step::AssignHomes { node } => {
            let home = boot(known(NODES[node])?);
            let first =
                view.partitions().map(|row| FirstHome { partition: row.partition, home: home.clone() });
            Command::AssignHomes(first.collect())
        }
        Step::AddReplica { partition, node } => {
            let node = known(NODES[node])?;
            let replica = Replica { node: node.node.clone(), store: node.store };
            Command::AddReplicas(vec![NewReplica { partition: PartitionId::new(partition), replica }])
        }
        Step::DropReplica { partition, copy } => {
            let row = directory.row(partition);
            let replica = row.replicas.get(copy)?.clone();
            Command::DropReplicas(vec![DroppedReplica { partition: row.partition, replica }])
        }
        Step::Retire { node: index, keep } => {
            Command::RetireNode(NodeRetirement { node: node(NODES[index]), keep, by: "ann".into() })
        }
        Step::RetireRegion => {
            Command::RetireRegion(RegionWish { region: region(REGIONS[1]), by: "ann".into() })
        }
        Step::FinishRetirement => {
            Command::FinishRetirement(view.nodes().map(|row| row.node.clone()).collect())
        }
        Step::Propose { partition, members, lost, stale } => {
            let row = directory.row(partition);
            let all: Vec<_> = row.replicas.iter().chain(row.lost.iter()).cloned().collect();
            let chosen = |bits: u8| {
                let some = all.iter().enumerate().filter(move |(index, _)| bits & (1 << (index % 8)) != 0);
                some.map(|(_, member)| member.clone()).collect::<Vec<_>>()
            };
            Command::ProposeIsr(IsrProposal {
                partition: row.partition,
                epoch: row.epoch,
                home: row.home.clone()?,
                isr_version: row.isr_version - u64::from(stale),
                isr: chosen(members | 1),
                lost: chosen(members & lost & !1),
                watermark: Lsn::ZERO,
            })
        }
        Step::Pin { key, region: index } => {
            let region = region(REGIONS[index]);
            Command::Pin(vec![PinWish { log: LogId::group([key; 16]), region, allowed_regions: vec![] }])
        }
        Step::BeginMove { partition, member } => {
            let target = boot(view.node(&directory.row(partition).isr.get(member)?.node)?);
            let (partition, cause) = (PartitionId::new(partition), MoveCause::Drain);
            Command::BeginMove(NewMove { partition, target, cause, by: String::new() })
        }
        Step::FinishMove { partition, seal, stale } => {
            let row = directory.row(partition);
            let epoch = if stale { row.epoch.prev() } else { row.epoch };
            let (id, seal) = (row.moving.as_ref()?.id, Lsn::new(row.start_lsn().get() + seal));
            Command::FinishMove(SealedMove { partition: row.partition, id, epoch, seal })
        }
        Step::AbortMove { partition, stale } => {
            let row = directory.row(partition);
            let id = row.moving.as_ref().map(|moving| MoveId::new(moving.id.get() - u64::from(stale)));
            let (by, why) = (String::new(), String::new());
            Command::AbortMove(AbortedMove { partition: row.partition, id, by, why })
        }
        Step::Drain { region: index, on } => {
            let wish = RegionWish { region: region(REGIONS[index]), by: String::new() };
            if on { Command::Drain(wish) } else { Command::Undrain(wish) }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn whatever_comes_the_invariants_hold(
        steps in prop::collection::vec((step(), any::<bool>(), any::<bool>()), 1..80)
    ) {
        let mut directory = Directory::born(&REGIONS, 2);
        let mut stores = [1, 11, 21, 31, 41];
        for (step, crash, retry) in steps {
            let Some(command) = command_of(&step, &directory, &mut stores) else { continue };
            let request = directory.next_request();
            if crash {
                directory.lose(request, command.clone());
            }
            let answer = directory.run_as(request, command.clone());
            if retry && answer.is_ok() {
                let after = directory.view.clone();
                prop_assert_eq!(directory.run_as(request, command), answer);
                prop_assert_eq!(&directory.view, &after);
            }
        }
    }
}
