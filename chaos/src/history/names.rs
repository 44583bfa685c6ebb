//! Who is who in a history: the tables that its naming events make.

use super::{Device, Kind, Log, Message, Node, Region, Session};
use types::{DeviceId, LogId, MessageId, NodeId, PartitionId, RegionId, UserId};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub id: NodeId,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogName {
    /// Its id.
    pub id: LogId,
    /// Where it is written: (generation, partition, first offset), oldest first.
    pub pins: Vec<(u32, PartitionId, u64)>,
}

impl LogName {
    /// The partition in which a generation of the log is written.
    pub fn partition(&self, generation: u32) -> Option<PartitionId> {
        self.pins.iter().find(|(of, ..)| *of == generation).map(|(_, partition, _)| *partition)
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName {
    /// Where it is.
    pub region: Region,
    /// Whose it is.
    pub user: UserId,
    /// The user's name for it.
    pub id: DeviceId,
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionName {
    /// Its device.
    pub device: Device,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageName {
    /// Its log.
    pub log: Log,
    /// Its device.
    pub device: Device,
    /// The device's name for it.
    pub id: MessageId,
}

/// All names, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    regions: Vec<RegionId>,
    nodes: Vec<NodeName>,
    logs: Vec<LogName>,
    devices: Vec<DeviceName>,
    sessions: Vec<SessionName>,
    messages: Vec<MessageName>,
}

impl Names {
    /// The regions, by number.
    pub fn regions(&self) -> &[RegionId] {
        &self.regions
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The logs, by number.
    pub fn logs(&self) -> &[LogName] {
        &self.logs
    }

    /// The devices, by number.
    pub fn devices(&self) -> &[DeviceName] {
        &self.devices
    }

    /// The sessions, by number.
    pub fn sessions(&self) -> &[SessionName] {
        &self.sessions
    }

    /// The messages, by number.
    pub fn messages(&self) -> &[MessageName] {
        &self.messages
    }

    /// A message.
    pub fn message(&self, message: Message) -> &MessageName {
        &self.messages[message.index()]
    }

    /// A log.
    pub fn log(&self, log: Log) -> &LogName {
        &self.logs[log.index()]
    }

    /// A node.
    pub fn node(&self, node: Node) -> &NodeName {
        &self.nodes[node.index()]
    }

    /// A device.
    pub fn device(&self, device: Device) -> &DeviceName {
        &self.devices[device.index()]
    }

    /// A region's name.
    pub fn region(&self, region: Region) -> &RegionId {
        &self.regions[region.index()]
    }

    /// The partition in which a generation of a log is written, where the history tells.
    pub fn partition(&self, log: Log, generation: u32) -> Option<PartitionId> {
        self.log(log).partition(generation)
    }

    /// The partition in which a message was written first.
    pub fn first_partition(&self, message: Message) -> Option<PartitionId> {
        self.log(self.message(message).log).pins.first().map(|(_, partition, _)| *partition)
    }

    /// The partition in which a message is written whenever that is: none where its log was re-homed.
    pub fn only_partition(&self, message: Message) -> Option<PartitionId> {
        match self.log(self.message(message).log).pins.as_slice() {
            [(_, partition, _)] => Some(*partition),
            _ => None,
        }
    }

    /// Takes a naming event in, or says why it cannot be; other events are checked for unknown names.
    pub(super) fn take(&mut self, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::Region { region, id } => {
                next(region.index(), self.regions.len(), "region")?;
                self.regions.push(id.clone());
            }
            Kind::Node { node, region, id } => {
                self.know_region(*region)?;
                next(node.index(), self.nodes.len(), "node")?;
                self.nodes.push(NodeName { region: *region, id: id.clone() });
            }
            Kind::Log { log, id } => {
                next(log.index(), self.logs.len(), "log")?;
                self.logs.push(LogName { id: *id, pins: Vec::new() });
            }
            Kind::Device { device, region, user, id } => {
                self.know_region(*region)?;
                next(device.index(), self.devices.len(), "device")?;
                self.devices.push(DeviceName { region: *region, user: user.clone(), id: *id });
            }
            Kind::Session { session, device } => {
                self.know_device(*device)?;
                next(session.index(), self.sessions.len(), "session")?;
                self.sessions.push(SessionName { device: *device });
            }
            Kind::Message { message, log, device, id } => {
                self.know_log(*log)?;
                self.know_device(*device)?;
                next(message.index(), self.messages.len(), "message")?;
                self.messages.push(MessageName { log: *log, device: *device, id: *id });
            }
            Kind::Pinned { log, generation, partition, first_offset } => {
                self.know_log(*log)?;
                self.logs[log.index()].pins.push((*generation, *partition, *first_offset));
            }
            other => self.check(other)?,
        }
        Ok(())
    }

    fn check(&self, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::Invoke { message, after, .. } => {
                self.know_message(*message)?;
                after.map_or(Ok(()), |after| self.know_message(after))
            }
            Kind::Ok { message, .. }
            | Kind::Fail { message, .. }
            | Kind::Indeterminate { message, .. }
            | Kind::Membership { message, .. } => self.know_message(*message),
            Kind::Deletion { message, deleted } => {
                self.know_message(*message)?;
                self.know_message(*deleted)
            }
            Kind::DeviceLost { device } => self.know_device(*device),
            Kind::Follow { session, log, .. }
            | Kind::Told { session, log, .. }
            | Kind::Marked { session, log, .. }
            | Kind::ReplicatedUpTo { session, log, .. } => self.know_session(*session, *log),
            Kind::Ended { session } => known(session.index(), self.sessions.len(), "session"),
            Kind::Seen { session, log, message, .. } => {
                self.know_session(*session, *log)?;
                self.know_message_of(*message, *log)
            }
            Kind::Paged { device, log, message, .. } => {
                self.know_device(*device)?;
                self.know_log(*log)?;
                self.know_message_of(*message, *log)
            }
            Kind::Placed { node, .. }
            | Kind::Watermark { node, .. }
            | Kind::DiskLost { node }
            | Kind::FinalPartition { node, .. } => self.know_node(*node),
            Kind::FinalLog { node, log, .. } | Kind::FinalMarks { node, log, .. } => {
                self.know_node(*node)?;
                self.know_log(*log)
            }
            Kind::Held { node, log, message, .. } => {
                self.know_node(*node)?;
                self.know_message_of(*message, *log)
            }
            Kind::Archived { node, message, .. } => {
                self.know_node(*node)?;
                self.know_message(*message)
            }
            Kind::FaultBegan { regions, .. } => {
                regions.iter().try_for_each(|region| self.know_region(*region))
            }
            Kind::MoveBegan { from, to, .. } => {
                self.know_node(*from)?;
                self.know_node(*to)
            }
            _ => Ok(()),
        }
    }

    fn know_region(&self, region: Region) -> Result<(), String> {
        known(region.index(), self.regions.len(), "region")
    }

    fn know_node(&self, node: Node) -> Result<(), String> {
        known(node.index(), self.nodes.len(), "node")
    }

    fn know_log(&self, log: Log) -> Result<(), String> {
        known(log.index(), self.logs.len(), "log")
    }

    fn know_device(&self, device: Device) -> Result<(), String> {
        known(device.index(), self.devices.len(), "device")
    }

    fn know_session(&self, session: Session, log: Log) -> Result<(), String> {
        known(session.index(), self.sessions.len(), "session")?;
        self.know_log(log)
    }

    fn know_message(&self, message: Message) -> Result<(), String> {
        known(message.index(), self.messages.len(), "message")
    }

    fn know_message_of(&self, message: Message, log: Log) -> Result<(), String> {
        self.know_message(message)?;
        match self.messages[message.index()].log {
            of if of == log => Ok(()),
            of => Err(format!("{message} is of {of}, not of {log}")),
        }
    }
}

fn next(number: usize, expected: usize, what: &str) -> Result<(), String> {
    if number == expected {
        Ok(())
    } else {
        Err(format!("{what} {number} is named where {expected} is next"))
    }
}

fn known(number: usize, count: usize, what: &str) -> Result<(), String> {
    if number < count { Ok(()) } else { Err(format!("{what} {number} was not named")) }
}
