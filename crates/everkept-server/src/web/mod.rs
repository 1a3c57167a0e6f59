//! The first web page: sessions, one of them live, and a line to write.
//!
//! Never an inline script or style, and never a text of somebody's as anything but text.

use crate::app::App;
use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

pub(crate) const PATHS: &[&str] = &["/", "/app.js", "/style.css"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(page)).route("/app.js", get(script)).route("/style.css", get(style))
}

async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("app.js"))
}

async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("style.css"))
}

fn file(media_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}
