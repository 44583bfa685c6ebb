//! Reads of any copy.

use super::*;

#[async_trait]
impl Replicas for StandIn {
    fn serves(&self, _: PartitionId) -> bool {
        !self.state.lock().stores[&self.name].is_dark
    }

    async fn read(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let state = self.state.lock();
        let store = &state.stores[&self.name];
        let copy = store.copy(partition);
        let known = store.homes.get(&partition).copied().unwrap_or_else(|| copy.known());
        let position = match from {
            ReadFrom::After(position) | ReadFrom::Before(Some(position)) => position,
            ReadFrom::Before(None) => Position::START,
        };
        match store.located(partition, log, user, position, known)?.located {
            Located::Continue => {}
            Located::Ahead => return Err(ReadRefusal::Ahead),
            Located::Diverged { common } => return Err(ReadRefusal::Diverged { common }),
        }
        let end = match from {
            ReadFrom::After(_) | ReadFrom::Before(None) => Offset::new(u64::MAX),
            ReadFrom::Before(Some(position)) => position.offset,
        };
        let start = if let ReadFrom::After(position) = from { position.offset } else { Offset::ZERO };
        let mut records = copy.entries(log);
        let until = store.log(partition, log, user)?.left_at(user);
        let end = end.min(until.map_or(end, |until| until.plus(1)));
        records.retain(|record| {
            record.position().is_some_and(|position| position.offset > start && position.offset < end)
        });
        let at_end = records.len() <= limit;
        match from {
            ReadFrom::After(_) => records.truncate(limit),
            ReadFrom::Before(_) => drop(records.drain(..records.len().saturating_sub(limit))),
        }
        let (generation, closed) = (Generation::FIRST, Generation::ZERO);
        Ok(Page { records, at_end, generation, closed, until })
    }

    async fn chat(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
    ) -> Result<ChatState, ReadRefusal> {
        let state = self.state.lock();
        let state = state.stores[&self.name].log(partition, log, user)?.clone();
        if !state.members.contains_key(user) {
            return Err(Refusal::new(Code::Forbidden, format!("{user} is no member of {log}")).into());
        }
        Ok(ChatState {
            members: state.members,
            chat: state.chat,
            created_at_ms: state.created_at_ms,
            generation: Generation::FIRST,
            closed: Generation::ZERO,
        })
    }

    async fn glance(
        &self,
        partition: PartitionId,
        user: &UserId,
        logs: &[LogId],
        detail: Detail<'_>,
    ) -> Result<Vec<Glance>, ReadRefusal> {
        let state = self.state.lock();
        let copy = state.stores[&self.name].copy(partition);
        let glance = |log: &LogId| Glance::of(*log, copy.logs.get(log)?, user, detail);
        Ok(logs.iter().filter_map(glance).collect())
    }

    async fn read_stretch(
        &self,
        _: PartitionId,
        _: LogId,
        _: Generation,
        _: ReadFrom,
        _: usize,
    ) -> Result<Page, ReadRefusal> {
        Err(ReadRefusal::Ahead)
    }

    async fn find(
        &self,
        _: PartitionId,
        _: LogId,
        _: Generation,
        _: &DedupKey,
    ) -> Result<Option<Deduped>, ReadRefusal> {
        Err(ReadRefusal::Ahead)
    }

    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal> {
        Ok(self.state.lock().stores[&self.name].account(partition, log))
    }

    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let state = self.state.lock();
        let store = &state.stores[&self.name];
        let known = store.copy(partition).known();
        store.located(partition, log, user, position, known)
    }
}
