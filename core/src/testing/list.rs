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
            agent_runs {
                a_record_comes_back_whole [Sessions],
                every_end_keeps_steps_and_usage [Sessions],
                a_record_is_written_once [Sessions],
                a_bad_record_is_refused [Sessions],
                what_databases_refuse_is_stored [Sessions],
                a_foreign_agent_run_is_not_found [Sessions],
                agent_runs_are_listed_in_pages [Sessions],
                one_of_many_records_is_stored [Sessions],
                live_and_stored_steps_are_the_same,
                an_agent_run_ends_with_its_run,
                a_takeover_keeps_the_transcript,
                steps_are_folded_once,
                a_delegated_agent_run_is_linked,
                an_agent_run_is_deleted,
                a_bad_fold_is_refused,
                steps_are_followed_to_the_end,
                following_steps_ends_with_the_agent_run,
            }
            api_tokens {
                a_token_is_found_by_its_hash [ApiTokens],
                a_token_is_kept_once [ApiTokens],
                a_token_is_revoked_once [ApiTokens],
                tokens_are_listed_in_pages [ApiTokens],
                tokens_are_the_systems [ApiTokens],
                an_erased_owner_has_no_tokens,
            }
            blobs {
                a_large_part_is_stored_once,
                a_blob_is_judged_with_its_commit,
                a_payload_may_name_what_is_there,
                a_blob_goes_with_its_last_event,
                a_repeated_batch_brings_its_blobs_once,
                steps_bring_blobs,
                an_end_that_the_store_writes_names_them_too,
                one_of_many_is_stored,
                blobs_are_listed_in_pages,
                a_blob_is_its_threads,
                readers_are_shown_how_it_begins,
                too_many_blobs_are_refused,
            }
            budgets {
                a_limit_may_be_reached,
                a_grant_shows_the_run,
                no_limit_is_not_a_limit_of_zero,
                only_own_calls_are_iterations,
                an_endless_estimate_is_refused,
                a_settled_call_gives_the_rest_back,
                a_retry_gives_nothing_back,
                what_is_released_comes_back,
                the_end_gives_everything_back,
                another_epoch_reserves_nothing,
                many_calls_never_exceed_a_limit,
                a_spent_run_keeps_what_it_did,
                an_allowance_is_set_aside,
                a_refused_allowance_leaves_nothing,
                a_child_that_is_not_made_costs_nothing,
                a_child_is_charged_once,
                an_ephemeral_child_is_charged_before_it_goes,
                a_child_without_limits_is_charged_before_it_goes,
                a_sweep_charges_before_it_deletes,
                a_resumed_run_has_what_lost_calls_reserved,
                a_child_is_charged_however_it_ended,
                a_dear_child_is_charged_whole,
                a_child_is_delegated_again_after_an_outage,
                grandchildren_are_charged_up_the_tree,
                a_root_is_nobodys_child,
                only_what_was_handed_over_is_charged,
                a_stranger_spends_nothing,
            }
            capabilities {
                what_is_lacking_is_refused [],
                what_answers_is_ready [],
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
            context {
                a_window_is_what_the_model_would_be_sent,
                an_empty_window_has_its_prompt,
                a_note_takes_the_place_of_what_it_stands_for,
                notes_are_folded_again,
                a_call_is_not_parted_from_its_result,
                one_of_many_folds_is_stored,
                a_repeated_fold_is_answered,
                what_comes_meanwhile_is_kept,
                a_hidden_run_leaves_the_window,
                a_fold_is_fenced,
                an_emptied_log_has_no_window,
                a_reload_equals_memory,
                a_fold_brings_its_note_alone,
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
                every_deletion_says_who_and_why,
                deletions_are_listed_in_pages,
            }
            erasures {
                an_owner_is_anonymised,
                an_owner_is_deleted,
                only_the_system_erases,
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
            feedback {
                feedback_comes_back_whole [Runs Items Feedback],
                a_person_has_one_opinion_of_each [Runs Items Feedback],
                one_of_many_puts_is_one_row [Runs Feedback],
                what_feedback_is_about_must_be_there [Runs Items Feedback],
                a_comment_has_a_length_and_no_nul [Runs Feedback],
                feedback_is_changed_and_taken_back [Runs Feedback],
                feedback_is_listed_in_pages [Runs Items Feedback],
                ratings_are_counted_by_run [Runs Items Feedback],
                feedback_is_its_threads [Runs Feedback],
                feedback_goes_with_its_run_and_its_thread [Runs Feedback],
                a_thread_that_changes_hands_keeps_what_was_thought [Runs Feedback],
                an_erased_owner_leaves_no_name,
                a_fork_leaves_it_to_the_source,
            }
            imports {
                a_cursor_is_where_it_was_set_last,
                what_is_no_record_is_kept_once,
                a_bad_part_is_refused,
                what_is_no_record_goes_with_its_thread,
            }
            forks {
                a_fork_reads_as_its_source,
                a_fork_ends_what_it_cuts,
                a_repeated_fork_writes_nothing,
                a_fork_goes_on_where_it_was_cut,
                a_fork_is_its_owners,
                a_fork_cuts_nothing_again,
                a_fork_is_written_in_small_commits,
            }
            interactions {
                a_run_asks_as_it_ends,
                a_repeated_end_asks_once,
                only_a_run_that_waits_asks,
                a_cancelled_run_asks_nobody,
                an_answer_admits_a_run,
                a_repeated_answer_is_answered_by_its_key,
                one_of_many_answers_is_admitted,
                a_question_is_its_threads,
                a_queued_run_answers_at_once,
                a_deleted_run_takes_its_answer_along,
                an_answer_that_was_undone_gives_way,
                questions_are_listed_in_pages,
                questions_come_back_byte_for_byte,
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
                a_page_of_large_rows_is_short [],
                message_readers_show_messages [],
                readers_of_a_run_show_that_run [],
                a_run_without_events_has_an_empty_page [],
                events_are_filtered [],
                filters_come_before_the_limit [],
                a_filter_needs_a_run [],
                the_last_visible_message_is_found [],
                an_empty_thread_has_empty_pages [],
            }
            pending {
                a_call_without_a_result_is_pending,
                a_call_without_an_id_is_answered_from_outside,
                calls_far_apart_are_pending,
                one_of_many_results_is_stored,
                a_repeated_result_is_answered,
                an_aborted_call_tells_the_model_why,
                one_of_many_claims_is_granted,
                a_resumed_call_says_who_had_it,
                a_resumed_run_fences_who_held_it,
                a_resumed_run_is_the_run_it_was,
                a_run_is_resumed_by_a_claim_that_holds,
                resumes_and_sweeps_exclude_each_other,
                a_thread_tells_what_is_needed_to_go_on,
                what_is_pending_is_its_owners,
                arguments_kept_apart_stay_whole,
                a_run_that_was_asked_to_stop_is_not_resumed,
                a_healed_thread_has_a_legal_history,
                calls_without_an_item_get_their_end,
                a_held_thread_is_not_healed,
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
                runs_are_listed_without_documents,
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
            search {
                words_phrases_and_beginnings_are_found,
                what_is_said_and_printed_is_found,
                a_match_says_where_it_is,
                matches_come_newest_first_in_pages,
                matches_are_filtered,
                hidden_runs_are_left_out,
                what_is_deleted_is_not_found,
                a_thread_that_changes_hands_is_found_by_its_owner,
                an_owner_finds_its_own,
                the_index_lags_and_says_so,
                an_index_is_made_anew,
                a_bad_payload_stops_nothing,
                a_long_text_is_found_by_its_beginning,
                many_index_one_thread_at_once,
                deletions_and_indexing_meet,
                a_search_equals_a_look_at_every_text,
                what_cannot_be_searched_is_refused,
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
                threads_are_listed_without_documents [],
                pinned_threads_come_first [],
                pinning_is_no_news [],
                threads_are_filtered_by_status [Runs],
                threads_are_filtered_by_agent_and_pin [],
                threads_are_filtered_by_metadata [],
                metadata_is_matched_as_it_was_spelled [],
                a_bad_match_is_refused [],
                a_cursor_of_another_list_is_refused [],
                a_filter_may_match_nothing [],
                appends_do_not_touch_the_thread [],
            }
            trees {
                a_spawned_thread_names_its_parent_run_and_tool_call,
                a_spawn_is_judged_by_its_parent,
                a_depth_has_a_limit,
                children_are_listed_in_pages,
                an_archived_thread_takes_no_append,
                an_archived_thread_takes_what_was_spent,
                a_deletion_takes_what_is_linked_and_gives_away_what_is_detached,
                a_tree_with_an_active_run_is_not_deleted,
                an_ephemeral_thread_is_deleted_when_its_run_succeeds,
                a_sweep_deletes_what_has_served,
                a_tree_changes_hands_as_a_whole,
                a_spawn_and_a_deletion_of_the_parent_exclude_each_other,
                appends_and_the_deletion_of_a_tree_meet,
                deletions_of_one_tree_take_each_thread_once,
                depths_hold_while_trees_move,
                random_trees_are_what_a_model_says,
            }
            turns {
                items_are_read_in_pages,
                changes_are_read_after_a_watermark,
                items_are_read_by_their_ids,
                turns_are_read_in_pages,
                a_summary_is_the_first_and_the_final_message,
                a_full_turn_says_where_it_has_more,
                hidden_turns_are_left_out,
                commits_may_be_cut_anywhere,
                a_rebuild_changes_nothing_that_is_right,
                every_kind_of_end_verifies_clean,
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
                an_estimate_gives_way_to_what_was_told,
            }
            usage_reports {
                calls_are_summed_by_each_key,
                a_sum_says_everything_of_its_calls,
                cached_and_reasoning_tokens_are_not_added_again,
                a_report_comes_in_pages,
                a_report_is_of_a_time,
                days_are_those_of_utc,
                an_owner_sums_up_its_own,
                rounds_are_those_of_one_thread,
                rounds_of_two_runs_stay_apart,
                failed_calls_are_counted,
                no_calls_have_no_sum,
                no_two_runs_share_a_key,
                a_tree_counts_each_call_once,
                a_childs_usage_survives_its_deletion,
                every_report_adds_up,
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
        $crate::__conformance_claimed! { @needs [Runs Marks Usage Items Sessions Search Feedback ApiTokens], $lacks, $($test)* }
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
    (@find Sessions [Sessions $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find Search [Search $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find Feedback [Feedback $($more:tt)*], $($rest:tt)*) => {
        $crate::__conformance_claimed! { @unclaimed $($rest)* }
    };
    (@find ApiTokens [ApiTokens $($more:tt)*], $($rest:tt)*) => {
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
