//! What a path names.
//!
//! Never tells a text that is no id from the id of nothing: both are absent.

use crate::failed::Failed;
use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use everkept_core::{QuestionId, Refusal, Resource, SessionId, TextDigest, Thread, TokenId, TurnId};

/// The path's parameters, in order.
pub(crate) struct At<T>(pub T);

impl<T: Named, S: Sync + Send> FromRequestParts<S> for At<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let named = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Failed::not_found())?;
        let mut segments = named.iter().map(|(_, segment)| segment);
        T::read(&mut segments).map(At)
    }
}

pub(crate) trait Named: Sized {
    fn read<'a>(segments: &mut impl Iterator<Item = &'a str>) -> Result<Self, Failed>;
}

macro_rules! named {
    ($($type:ty: $segment:ident => $read:expr;)*) => {$(
        impl Named for $type {
            fn read<'a>(segments: &mut impl Iterator<Item = &'a str>) -> Result<Self, Failed> {
                let $segment = segments.next().ok_or_else(Failed::not_found)?;
                Ok($read?)
            }
        }
    )*};
}

named! {
    SessionId: segment => segment.parse().map_err(|_| Refusal::SessionNotFound);
    TurnId: segment => segment.parse().map_err(|_| Refusal::TurnNotFound);
    QuestionId: segment => segment.parse().map_err(|_| Refusal::QuestionNotFound);
    TokenId: segment => segment.parse().map_err(|_| Failed::new(everkept_api::ErrorCode::NotFound, "no such token"));
    TextDigest: segment => serde_json::from_value(segment.into()).map_err(|_| Failed::new(everkept_api::ErrorCode::NotFound, "no such blob"));
    Resource: segment => Resource::new(segment);
    Thread: segment => Thread::new(segment);
    String: segment => Ok::<_, Failed>(segment.to_owned());
}

impl<A: Named, B: Named> Named for (A, B) {
    fn read<'a>(segments: &mut impl Iterator<Item = &'a str>) -> Result<Self, Failed> {
        Ok((A::read(segments)?, B::read(segments)?))
    }
}
