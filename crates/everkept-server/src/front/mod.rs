//! What stands before every route, in this order: Host, Origin, credential, and the security headers of every answer.
//!
//! Never routes a request that any of them refused, and never tells one route from another without a credential.

mod credential;
mod headers;
mod login;
mod site;

pub(crate) use credential::{Credential, Who};
pub use login::login_link;
pub(crate) use site::Site;

use crate::{app::App, failed::Failed, openai, relay};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use everkept_api::ErrorCode;
use everkept_engine::{Access, Failure};
use futures::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tower::ServiceExt;

/// The most bytes of a request's target and headers.
const MAX_HEAD: usize = 32 * 1024;

/// What is answered without a credential, beside the empty health answer.
pub(crate) const OPEN: &[(&str, &str)] = &[("GET", "/login"), ("GET", "/login.js"), ("GET", "/login.css"), ("POST", "/login")];

/// A server's front and the routes behind it.
pub(crate) struct Front {
    pub app: Arc<App>,
    pub routes: Router,
}

/// Whether a good credential has come over a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Front {
    pub async fn answer(&self, request: Request<Body>, known: &Known) -> Response {
        let openai = openai::is_door(request.uri().path());
        let admitted = AssertUnwindSafe(self.admit(request, known)).catch_unwind().await;
        let answered = admitted.unwrap_or_else(|_| Err(Failed::new(ErrorCode::Internal, "the server made a mistake, which it has noted")));
        let mut response = match answered {
            Ok(response) => response,
            Err(failed) if openai => openai::refuse(failed),
            Err(failed) => failed.into_response(),
        };
        headers::add(&mut response);
        if !known.is_known() {
            // A stranger gets one answer: what it does not read is not heaped up.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn admit(&self, mut request: Request<Body>, known: &Known) -> Result<Response, Failed> {
        let app = &self.app;
        check_head(&request)?;
        app.site.check_host(&request)?;
        app.site.check_origin(&request)?;
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/login" if reads => return Ok(login::page()),
            "/login.js" if reads => return Ok(login::script()),
            "/login.css" if reads => return Ok(login::style()),
            "/login" if request.method() == Method::POST => return login::log_in(app, request).await,
            _ => {}
        }
        if path == "/api/health" && reads && credential::is_absent(request.headers(), &app.site) {
            return Ok(StatusCode::OK.into_response());
        }
        let credential = credential::check(app, request.headers()).await?;
        known.0.store(true, Ordering::Relaxed);
        if app.engine.storage_failed() {
            return Err(Failed::new(ErrorCode::StorageFailed, "storage failed; nothing is acknowledged until a new start"));
        }
        if credential.by_cookie && !reads && !credential::has_write_header(request.headers()) {
            return Err(Failure::Forbidden.into());
        }
        if OPEN.iter().any(|(_, open)| *open == request.uri().path()) {
            return Err(Failed::new(ErrorCode::MethodNotAllowed, "this route does not take that method"));
        }
        // For a relay there is its own door, and nothing else.
        if matches!(credential.caller.access, Access::Relay(_)) && request.uri().path() != relay::PATH {
            return Err(Failed::not_found());
        }
        request.extensions_mut().insert(credential);
        let routed = self.routes.clone().oneshot(request).await;
        Ok(routed.unwrap_or_else(|never| match never {}))
    }
}

/// hyper bounds what it holds, but lets a head pass that came in one piece.
fn check_head<B>(request: &Request<B>) -> Result<(), Failed> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    match target + headers > MAX_HEAD {
        true => Err(Failed::new(ErrorCode::HeadersTooLarge, "the request's head is too large")),
        false => Ok(()),
    }
}
