//! The one list of cases, from which the tests of a backend and the names are made.
//!
//! In brackets stands what a case needs of a backend beyond the log ([`Capability`](crate::Capability));
//! without brackets it needs everything.

/// Calls `$callback!` with everything given and the list of cases, by room.
use crate::{Capabilities, Capability};

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ([$($callback:tt)+] [$($given:tt)*]) => {
        $($callback)+! {
            $($given)*
            capabilities {
                what_is_lacking_is_refused [],
            }
            commits {
                seqs_start_at_one_without_gaps [],
                threads_count_independently [],
                an_event_comes_back_whole [],
                an_expected_seq_is_checked [],
                a_missing_thread_is_created_on_request [],
                a_refused_commit_creates_no_thread [],
                a_deleted_thread_is_not_revived [],
                empty_and_oversized_commits_are_refused [],
                what_belongs_to_a_run_needs_one [],
                an_unknown_run_is_not_found [Runs],
                progress_is_kept_on_the_run [Runs Marks],
                messages_are_counted [],
                bad_fields_are_named [],
                the_first_fault_is_told [Runs Marks],
                a_refused_commit_changes_nothing,
            }
            concurrency {
                writers_of_one_thread_leave_no_gap [],
                writers_of_many_threads_do_not_meet [],
                one_of_many_admissions_wins [Runs],
                admissions_with_one_key_are_one_run [Runs],
                one_of_many_puts_is_stored [],
                a_refusal_fails_nobody_else,
                a_batch_sent_by_many_is_stored_once,
                usage_reported_by_many_counts_once,
                one_of_many_ends_is_stored,
                edits_of_different_keys_all_hold [],
            }
            deletions {
                a_run_goes_with_all_below_it [],
                a_deletion_never_frees_a_seq [],
                pages_step_over_what_is_gone [],
                nothing_is_put_on_a_deleted_run [],
                a_log_is_emptied [],
                what_is_active_is_not_deleted [Runs],
                an_ended_run_is_deleted_beside_an_active_one [Runs],
                a_deleted_thread_is_gone [],
            }
            exactly_once {
                a_repeated_commit_is_answered_as_the_first,
                a_repeated_start_is_answered,
                a_repeated_start_may_have_grown,
                a_repeated_expectation_is_answered,
                a_late_repetition_sets_nothing_back,
                a_split_retry_stores_only_the_rest,
                a_split_retry_keeps_the_items,
                a_gap_in_the_ordinals_is_a_conflict,
                another_event_under_an_ordinal_is_a_conflict,
                a_repeated_trace_that_was_cut_is_recognised,
                another_epoch_is_refused,
                an_ended_run_is_fenced,
                each_run_counts_its_own_ordinals,
                a_repeated_end_is_answered,
                an_end_may_repeat_what_is_stored,
                a_repeated_end_counts_its_calls_once,
                the_first_outcome_holds,
                another_end_under_the_same_mark_writes_nothing,
                a_marked_commit_may_have_no_events,
                put_if_absent_stores_one [],
                put_if_absent_needs_a_key [],
                once_keys_belong_to_a_run [],
                a_taken_once_key_refuses_the_commit [],
            }
            items {
                an_item_starts_and_completes,
                a_completion_alone_makes_the_item,
                the_first_completion_holds,
                a_second_start_changes_nothing,
                an_item_id_is_its_runs_own,
                unknown_kinds_pass_through,
                items_are_listed_in_order,
                a_missing_item_is_not_found,
            }
            leases {
                a_lease_lasts_as_long_as_its_run,
                a_lease_needs_a_length,
                a_heartbeat_renews_a_workers_runs,
                leases_are_the_systems,
                an_expired_run_is_taken_over,
                a_held_run_is_left_alone,
                a_grace_without_end_ends_nobody,
                a_run_without_a_lease_is_taken_over_on_request,
                each_expired_run_has_one_sweeper,
                a_renewal_and_a_takeover_exclude_each_other,
                the_first_cancel_holds,
                a_cancelled_run_ends_as_asked,
                a_run_that_nobody_holds_is_ended_by_the_request,
                cancels_and_the_end_meet,
                a_sweep_ends_as_asked,
                a_replaced_run_ends_as_it_was_asked_to,
                a_takeover_promotes_the_queue,
            }
            pages {
                after_a_seq_come_the_first_rows [],
                before_a_seq_come_the_last_rows [],
                without_a_cursor_come_the_last_rows [],
                both_cursors_are_a_window [],
                a_limit_of_zero_is_refused [],
                a_limit_is_checked_before_the_thread [],
                a_large_limit_is_capped [],
                message_readers_show_messages [],
                readers_of_a_run_show_that_run [],
                a_run_without_events_has_an_empty_page [],
                events_are_filtered [],
                filters_come_before_the_limit [],
                a_filter_needs_a_run [],
                the_last_visible_message_is_found [],
                an_empty_thread_has_empty_pages [],
            }
            runs {
                input_is_durable_at_admission,
                a_run_is_admitted_started_and_finished,
                every_outcome_has_its_status,
                the_end_is_one_commit,
                the_terminal_event_is_exactly_one,
                a_taken_slot_is_a_conflict,
                each_admission_has_its_own_epoch,
                a_taken_run_id_already_exists,
                a_run_starts_once,
                transitions_need_their_mark,
                an_idempotency_key_is_one_run,
                an_idempotency_key_outlives_its_run,
                an_admission_creates_a_missing_thread,
                late_records_belong_to_their_run,
                an_admission_comes_back_whole,
                runs_are_listed_in_pages,
                runs_of_several_threads_may_share_an_id,
                runs_are_filtered,
                runs_are_filtered_by_time,
                a_run_is_found_by_its_id,
            }
            scopes {
                a_thread_is_stamped_with_its_owner [],
                an_owner_makes_no_thread_for_another [],
                a_thread_without_owner_is_the_systems [],
                a_foreign_id_is_taken [],
                lists_show_what_is_owned [],
                runs_pointed_to_must_be_the_threads_own,
                a_stranger_changes_nothing [],
                every_call_of_a_stranger_is_refused [],
                a_stranger_neither_admits_nor_ends_a_run,
                the_system_moves_a_thread [],
            }
            strategies {
                an_interrupting_run_takes_the_slot,
                a_rolled_back_run_is_hidden,
                a_refused_admission_replaces_nothing,
                queued_runs_are_admitted_in_order,
                a_promoted_run_is_acquired_once,
                a_promoted_run_is_held_by_who_asked,
                a_queued_run_is_cancelled,
                the_queue_waits_behind_a_replacing_run,
                nothing_is_appended_to_a_run_that_waits,
                an_input_that_is_not_json_does_not_wait,
                a_queued_run_keeps_its_key,
            }
            tails {
                a_tail_replays_and_follows [],
                a_tail_crosses_pages [],
                an_append_wakes_the_tail [],
                a_tail_says_what_is_gone [],
                a_tail_ends_with_its_thread [],
                a_stranger_follows_nothing [],
            }
            texts {
                payloads_come_back_byte_for_byte [],
                a_large_payload_comes_back [],
                documents_come_back_as_json [],
                an_error_with_nul_ends_the_run,
                a_title_with_nul_is_cleaned [],
                long_traces_are_cut_and_messages_are_not [],
                traces_are_measured_as_they_are_spelled [],
                documents_beyond_a_databases_means_are_refused [],
                a_key_with_half_a_character_is_a_key [],
                labels_with_nul_are_refused [],
                times_keep_their_microseconds [],
                ids_of_other_scripts_carry_over [],
                ids_are_ordered_by_their_bytes [],
            }
            threads {
                a_thread_comes_back_whole [],
                a_new_head_is_at_the_beginning [],
                a_taken_id_already_exists [],
                documents_must_be_objects [],
                an_edit_changes_what_it_names [],
                a_refused_edit_changes_nothing [],
                threads_are_listed_in_pages [],
                threads_are_filtered_by_status [Runs],
                appends_do_not_touch_the_thread [],
            }
            usage {
                a_call_comes_back_whole,
                totals_are_the_sum_of_the_calls,
                a_call_counts_once,
                an_empty_call_is_completed_once,
                an_empty_call_is_completed_in_its_own_commit,
                a_completed_call_stays_its_runs_own,
                a_total_of_zero_is_the_sum,
                a_child_thread_is_the_scopes_own,
                a_lost_run_comes_before_an_unknown_child,
                callers_are_told_apart_by_case,
                counters_are_64_bit,
                usage_is_broken_down_by_model,
                active_runs_count_on_request,
                a_call_without_a_run_counts_for_the_thread,
                calls_are_listed_in_pages,
            }
            visibility {
                a_rewind_hides_a_run_and_those_after_it,
                a_rewind_to_a_run_that_only_waited_undoes_it_alone,
                a_superseded_run_is_left_out,
                an_active_run_is_not_hidden,
            }
        }
    };
}

/// Makes one `#[test]` of each case. See [`testing`](crate::testing).
///
/// `conformance_tests!(open, lacks [Usage, Items])` is for a backend that does not claim these: the
/// cases that need one of them are ignored tests, so that they are seen and counted. That the
/// backend's own [`Capabilities`](crate::Capabilities) say the same is a test, too.
#[macro_export]
macro_rules! conformance_tests {
    ($open:ident) => {
        $crate::conformance_tests!($open, lacks []);
    };
    ($open:ident, lacks [$($lacking:ident),*]) => {
        $crate::__conformance_cases! { [$crate::__conformance_test] [$open, [$($lacking)*],] }

        #[test]
        fn the_backend_claims_what_is_tested() {
            $crate::testing::run(concat!(module_path!(), "::the_backend_claims_what_is_tested"), async {
                let Some((ledger, _guard)) = $open().await else { return false };
                $crate::testing::check_claims(&ledger, &[$($crate::Capability::$lacking),*]);
                true
            });
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ($open:ident, $lacks:tt, $($room:ident { $($case:ident $([$($need:tt)*])?,)+ })+) => {
        $($(
            $crate::__conformance_claimed! {
                @needs $([$($need)*])?, $lacks,
                fn $case() {
                    $crate::testing::run(concat!(module_path!(), "::", stringify!($case)), async {
                        // The guard outlives the case.
                        let Some((ledger, _guard)) = $open().await else { return false };
                        $crate::testing::cases::$room::$case(&ledger).await;
                        true
                    });
                }
            }
        )+)+
    };
}

/// Makes a test of a case, an ignored one where something it needs is lacking: looks for each need
/// among all that is lacking.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_claimed {
    (@needs , $lacks:tt, $($test:tt)*) => {
        $crate::__conformance_claimed! { @needs [Runs Marks Usage Items], $lacks, $($test)* }
    };
    (@needs [], $lacks:tt, $($test:tt)*) => {
        #[test]
        $($test)*
    };
    (@needs [$need:tt $($needs:tt)*], $lacks:tt, $($test:tt)*) => {
        $crate::__conformance_claimed! { @find $need $lacks, [$($needs)*], $lacks, $($test)* }
    };
    (@find Runs [Runs $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find Marks [Marks $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find Usage [Usage $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find Items [Items $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find $need:tt [$other:tt $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @find $need [$($more)*], $($rest)* }
    };
    (@find $need:tt [], $needs:tt, $lacks:tt, $($test:tt)*) => {
        $crate::__conformance_claimed! { @needs $needs, $lacks, $($test)* }
    };
    (@unclaimed $needs:tt, $lacks:tt, $($test:tt)*) => {
        #[test]
        #[ignore = "not claimed: the case needs what this backend says it lacks"]
        $($test)*
    };
}

macro_rules! needs {
    () => {
        Capability::ALL
    };
    ([$($need:ident)*]) => {
        &[$(Capability::$need),*]
    };
}

macro_rules! entries {
    ($($room:ident { $($case:ident $([$($need:tt)*])?,)+ })+) => {
        &[$($((concat!(stringify!($room), "::", stringify!($case)), needs!($([$($need)*])?)),)+)+]
    };
}

/// Every case, as `room::case`, and what it needs of a backend beyond the log.
fn cases() -> &'static [(&'static str, &'static [Capability])] {
    crate::__conformance_cases!([entries] [])
}

/// The name of every case, as `room::case`.
#[must_use]
pub fn case_names() -> Vec<&'static str> {
    cases().iter().map(|(name, _)| *name).collect()
}

/// The names of the cases that a backend with these capabilities must pass.
#[must_use]
pub fn claimed_cases(capabilities: Capabilities) -> Vec<&'static str> {
    cases().iter().filter(|(_, needs)| capabilities.cover(needs)).map(|(name, _)| *name).collect()
}
