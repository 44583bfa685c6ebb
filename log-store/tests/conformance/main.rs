//! One suite for every engine of [`LogStore`]: each rule of the contract by example, and generated
//! histories against a model.
//!
//! An engine joins by a [`Bed`] and one line of `suite!`.

mod appending;
mod erasing;
mod fencing;
mod generated;
mod model;
mod opening;
mod reading;
mod rehoming;
mod tails;
mod writer;

use log_store::{
    LogStore,
    embedded::{Config, EmbeddedStore},
    memory::MemoryStore,
};
use std::{future::Future, sync::Arc};
use tempfile::TempDir;
use types::StoreId;

/// Where a test keeps the store that it tries.
trait Bed: Sized {
    /// How many histories are generated: fewer where each sync costs time.
    const HISTORIES: u32;

    /// Makes an empty store.
    fn create() -> impl Future<Output = Self>;

    /// The store, open.
    fn store(&self) -> Arc<dyn LogStore>;

    /// Closes the store and opens it again.
    fn reopen(&mut self) -> impl Future<Output = ()>;
}

macro_rules! suite {
    ($engine:ident, $bed:ty) => {
        mod $engine {
            use super::*;

            suite!(@examples $bed,
                appending: [
                    batches_under_way_take_effect_in_the_order_of_the_calls,
                    behind_a_refused_batch_there_is_a_gap,
                    one_bad_record_refuses_the_whole_batch,
                    a_batch_follows_the_end_of_its_partition,
                    an_entry_follows_the_head_of_its_log,
                    updates_have_no_offset,
                    a_seal_takes_an_lsn_and_nothing_else,
                    a_message_id_stands_once_in_its_log,
                    epochs_never_go_back,
                    generations_never_go_back,
                    a_batch_keeps_its_bounds,
                    encoded_records_are_one_for_each_record,
                    the_largest_bodies_come_back_whole,
                    partitions_do_not_share_logs,
                    batches_of_many_tasks_and_partitions_all_land,
                ]
                erasing: [
                    a_deleted_body_is_gone_at_once,
                    an_expired_body_is_gone_at_its_time,
                    a_reclaimed_body_stays_gone,
                    an_account_that_has_ended_leaves_only_its_end,
                    only_messages_are_erased,
                    an_archived_body_is_reclaimed_too,
                    what_may_yet_come_back_stays_on_disk,
                    an_archived_body_is_reclaimed_where_its_log_went_on_elsewhere,
                ]
                fencing: [
                    a_fence_refuses_what_is_below_it_only,
                    a_fence_never_goes_down,
                    a_fence_answers_the_end_it_closes,
                    a_fence_holds_for_tails_too,
                    a_fence_outlives_the_opening,
                    partitions_are_those_with_a_record_or_a_fence,
                ]
                opening: [
                    what_was_acked_is_there_after_reopening,
                    a_closed_store_answers_closed,
                    closing_ends_what_is_under_way,
                    a_canary_leaves_no_trace,
                ]
                reading: [
                    a_partition_is_read_in_order_within_bounds,
                    a_log_is_read_in_both_directions,
                    a_page_holds_at_least_one_record,
                    past_the_end_there_is_nothing_or_a_refusal,
                    logs_are_listed_in_pages,
                    the_state_is_the_fold_of_the_records,
                    a_message_id_is_found_with_its_position,
                ]
                rehoming: [
                    a_sealed_log_takes_nothing_more_in_its_generation,
                    an_imported_log_goes_on_behind_its_import,
                    a_log_that_comes_back_leaves_a_hole,
                    cutting_an_import_gives_the_log_back,
                    an_effect_erases_behind_a_seal,
                    pending_effects_are_told_until_they_are_done,
                ]
                tails: [
                    only_an_archived_tail_is_cut,
                    an_archive_holds_the_tail_as_it_was,
                    archiving_again_answers_the_same_records,
                    cutting_rewinds_all_that_was_derived,
                    a_cut_tail_gives_way_to_another_epoch,
                    a_whole_partition_can_be_cut,
                    a_discarded_archive_protects_nothing,
                    an_archive_outlives_the_opening,
                    a_salvage_goes_on_step_by_step,
                    a_discarded_archive_lists_nothing,
                ]
            );

            #[test]
            fn generated_histories_agree_with_the_model() {
                generated::agree_with_the_model::<$bed>();
            }
        }
    };
    (@examples $bed:ty, $($area:ident: [$($name:ident,)*])*) => {
        $($(
            #[tokio::test]
            async fn $name() {
                $area::$name(<$bed>::create().await).await;
            }
        )*)*
    };
}

suite!(memory, MemoryBed);
suite!(embedded, EmbeddedBed);

struct MemoryBed(MemoryStore);

impl Bed for MemoryBed {
    const HISTORIES: u32 = 128;

    async fn create() -> Self {
        Self(MemoryStore::new(StoreId::from_bytes([7; 16])))
    }

    fn store(&self) -> Arc<dyn LogStore> {
        Arc::new(self.0.clone())
    }

    async fn reopen(&mut self) {
        self.0.close().await;
        self.0 = self.0.reopen().expect("it was closed");
    }
}

/// Small segments and a fold that comes often, so that short tests cross their boundaries.
struct EmbeddedBed {
    /// None only between two openings: the folder is in use until the last handle is gone.
    store: Option<Arc<EmbeddedStore>>,
    folder: TempDir,
}

impl EmbeddedBed {
    fn open(folder: &TempDir) -> Arc<EmbeddedStore> {
        let config = Config { segment_bytes: 128 * 1024, fold_records: 16, ..Config::default() };
        EmbeddedStore::open(folder.path(), config).expect("an undamaged store")
    }
}

impl Bed for EmbeddedBed {
    const HISTORIES: u32 = 24;

    async fn create() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { store: Some(Self::open(&folder)), folder }
    }

    fn store(&self) -> Arc<dyn LogStore> {
        self.store.clone().expect("open")
    }

    async fn reopen(&mut self) {
        self.store().close().await;
        self.store = None;
        self.store = Some(Self::open(&self.folder));
    }
}
