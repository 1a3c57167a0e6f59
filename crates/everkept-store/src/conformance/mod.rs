//! What every store must show, checked the same way for each.
//!
//! `conformance!(make)` makes one test of each check. Never looks inside a store: only answers count.

mod answers;
mod breakers;
mod bytes;
mod events;
mod forks;
pub mod hand;
mod letters;
mod lists;
mod questions;
mod script;
mod search;
mod tokens;
mod trash;
mod usage;

pub use answers::*;
pub use breakers::*;
pub use bytes::*;
pub use events::*;
pub use forks::*;
pub use hand::{Hand, log};
pub use letters::*;
pub use lists::*;
pub use questions::*;
pub use script::*;
pub use search::*;
pub use tokens::*;
pub use trash::*;
pub use usage::*;

use crate::Store;
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

/// Makes empty stores of one kind, and keeps what they need for as long as it lives itself.
pub trait Stores {
    fn fresh(&self) -> Arc<dyn Store>;
}

impl<F: Fn() -> Arc<dyn Store>> Stores for F {
    fn fresh(&self) -> Arc<dyn Store> {
        self()
    }
}

/// One `#[test]` for each check, each on stores that `$make` (an expression of a type that is [`Stores`]) makes.
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance!($make;
            o1_events_are_numbered_from_one_without_a_gap,
            d3_what_is_read_is_what_was_answered,
            a_commit_on_an_old_head_or_fence_changes_nothing,
            a_commit_is_all_of_it_or_none_of_it,
            two_writes_of_one_commit_to_one_log_follow_each_other,
            a_taken_log_refuses_its_old_owner,
            events_are_filtered_by_kind_turn_and_context,
            d6_events_are_chained,
            a_fork_reads_its_parent_up_to_the_cut,
            a_fork_of_a_fork_reads_through_all_of_them,
            a_fork_shows_whole_turns_and_capped_messages_only,
            a_row_of_what_is_inherited_stays_in_the_log_it_was_written_to,
            d6_a_fork_goes_on_from_the_chain_at_its_cut_wherever_that_is,
            a_fork_of_nothing_is_refused,
            sessions_are_listed_by_newest_activity,
            equal_activity_is_ordered_by_id_and_no_page_skips_one,
            sessions_are_filtered,
            one_session_has_a_thread_and_the_trash_has_none,
            a_thread_passes_from_parent_to_fork_in_one_step,
            children_are_listed_oldest_first,
            turns_and_messages_are_paged_both_ways,
            all_sessions_are_listed_by_id,
            what_is_owed_is_kept_until_it_is_done,
            questions_are_found_by_id_session_and_owner,
            re_03_dead_letters_are_listed_until_they_are_taken_up_or_put_away,
            re_02_the_newest_breaker_is_kept_whatever_order_they_come_in,
            o3_a_key_has_one_answer,
            o3_one_key_at_the_same_time_has_one_effect,
            l3_an_expired_answer_is_not_revived_by_the_clock,
            boots_are_counted_and_time_does_not_go_back,
            d7_what_an_agent_sent_is_read_back_to_the_byte,
            blobs_are_kept_once_and_know_their_sessions,
            tokens_are_found_by_their_secret_and_revoked_once,
            packing_changes_no_byte_of_what_is_read,
            words_of_titles_and_messages_are_found,
            a_search_is_never_read_as_syntax,
            d8_the_trash_is_purged_after_its_stated_time_and_not_before,
            a_parent_stays_until_no_fork_needs_it,
            a_turn_is_counted_once_through_forks_and_retries_and_in_the_trash,
            usage_is_told_apart_filtered_and_bounded,
            a_script_leads_to_the_log_of_the_memory_store,
            verify_finds_nothing_after_a_script,
        );
    };
    ($make:expr; $($check:ident),* $(,)?) => {
        $(#[test]
        fn $check() {
            let stores = $make;
            $crate::conformance::block_on($crate::conformance::$check(&stores));
        })*
    };
}

/// Runs every check on the current thread until its answer is there.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// The answer of a store that has no reason to fail here.
async fn ok<T, E: std::fmt::Debug>(answer: impl Future<Output = Result<T, E>>) -> T {
    match answer.await {
        Ok(answer) => answer,
        Err(fault) => panic!("a store must answer this: {fault:?}"),
    }
}
