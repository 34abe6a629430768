//! The store suite on both databases.

use tests::store_suite::{self, Place};

macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() -> anyhow::Result<()> {
                store_suite::$promise(&Place::sqlite()?).await
            })*
        }

        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() -> anyhow::Result<()> {
                store_suite::$promise(&Place::postgres().await?).await
            })*
        }
    };
}

on_both!(
    a_caller_may_not_register,
    a_corrupt_row_is_named,
    a_disabled_upstream_is_left_alone,
    a_failure_keeps_the_catalog,
    a_large_catalog_is_stored,
    a_newer_schema_is_refused,
    a_server_of_other_versions_keeps_its_catalog_but_not_its_era,
    aliases_give_way_to_names,
    an_apply_is_all_or_nothing,
    an_equal_catalog_takes_no_revision,
    an_update_without_change_is_none,
    bare_names_may_not_clash,
    catalogs_keep_names_across_restarts,
    changes_of_others_are_seen,
    commands_take_named_secrets_only,
    commits_survive_a_crash,
    credentials_are_sealed,
    discovered_tools_belong_to_their_upstream,
    entries_come_in_pages,
    entries_follow_the_catalog,
    single_entries_are_chosen,
    following_the_log_equals_reading_all,
    join_tokens_are_spent_once,
    lists_come_in_pages,
    names_are_unique,
    of_parallel_writers_one_wins,
    outdated_results_do_not_count,
    proxies_are_remembered,
    references_are_resolved_or_refused,
    repeated_requests_change_nothing,
    revisions_have_order_and_no_gaps,
    simultaneous_repetitions_make_one_object,
    the_change_log_names_what_changed,
    the_epoch_belongs_to_the_database,
    the_status_names_the_database,
    tokens_end_as_they_should,
    vanished_tools_leave_the_selection,
    what_is_not_committed_leaves_nothing,
    what_is_used_stays,
);

/// Control planes that start at the same moment migrate once and agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn control_planes_can_start_together_on_postgres() -> anyhow::Result<()> {
    let place = Place::postgres().await?;
    let (a, b, c) = tokio::try_join!(place.open(), place.open(), place.open())?;
    assert_eq!(a.store.epoch(), b.store.epoch());
    assert_eq!(b.store.epoch(), c.store.epoch());
    Ok(())
}
