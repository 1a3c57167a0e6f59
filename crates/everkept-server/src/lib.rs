//! The doors: HTTP routes over one engine, and what stands before them.
//!
//! [`serve`] runs a server on a listener until it is told to end; [`Server`] is the same over any stream, for a network
//! that is simulated. [`login_link`] makes the link a browser gets in by, [`create_token`] any token. Every request
//! passes Host, Origin and credential before it is routed; every stream ends with the server or its credential.
//!
//! Never a rule about conversations (the engine has them), a store, or a driver.

mod app;
mod config;
mod document;
mod extract;
mod failed;
mod front;
mod native;
mod net;
mod openai;
mod relay;
mod secret;
mod stream;
mod web;

pub use config::{BODY_LIMIT, CONNECTIONS, ServerConfig};
pub use front::login_link;
pub use net::TlsFiles;
pub use secret::{create_token, new_secret, secret_hash};

use app::App;
use axum::{Router, extract::DefaultBodyLimit};
use everkept_api::ErrorCode;
use everkept_engine::Engine;
use failed::Failed;
use front::{Front, Site};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// Serves until `shutdown` says so, then ends every stream and answers what is under way.
///
/// Refuses a listener that others can reach without TLS.
pub async fn serve(config: ServerConfig) -> io::Result<()> {
    let site = config.site()?;
    let listener = net::listener(config.listener)?;
    let connections = config.connections;
    let front = front(App::new(config.engine, site, config.body_limit, config.shutdown));
    net::accept(front, listener, config.tls.as_ref(), connections).await
}

/// A server without a listener.
#[derive(Clone)]
pub struct Server {
    front: Arc<Front>,
}

impl Server {
    /// `port` is the one clients name as our Host's.
    pub fn new(engine: Engine, port: u16, body_limit: usize, shutdown: watch::Receiver<bool>) -> io::Result<Self> {
        let site = Site::new(port, false, None)?;
        Ok(Server { front: front(App::new(engine, site, body_limit, shutdown)) })
    }

    /// Serves one connection to its end.
    pub async fn serve_connection<IO>(&self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        net::serve_connection(self.front.clone(), io).await;
    }
}

/// Every route there is, as (method, path): for tests that walk them all.
pub fn route_table() -> Vec<(String, String)> {
    let (_, document) = document::routes();
    let mut table = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        table.extend(item.as_object().into_iter().flatten().map(|(method, _)| (method.to_ascii_uppercase(), path.clone())));
    }
    table.extend(web::paths().map(|path| ("GET".to_owned(), path.to_owned())));
    table.extend(front::OPEN.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())));
    table
}

fn front(app: Arc<App>) -> Arc<Front> {
    let (routes, document) = routes();
    let document = serde_json::to_vec(&document).expect("a document has string keys only");
    // It is set here and nowhere else.
    _ = app.document.set(document.into());
    let routes = routes
        .fallback(|| async { Failed::not_found() })
        .method_not_allowed_fallback(|| async { Failed::new(ErrorCode::MethodNotAllowed, "this route does not take that method") })
        // Bodies are bounded where they are read, by the limit that is configured.
        .layer(DefaultBodyLimit::disable())
        .with_state(app.clone());
    Arc::new(Front { app, routes })
}

/// Everything behind the front, and the API's document. A test holds it against the table of routes.
fn routes() -> (Router<Arc<App>>, serde_json::Value) {
    let (routes, document) = document::routes();
    (routes.merge(web::routes()), document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The router does not tell its routes, but it shows them.
    fn shown(router: &Router<Arc<App>>) -> BTreeSet<String> {
        let shown = format!("{router:?}");
        let own = |text: &&str| text.starts_with('/') && !text.contains("__private__axum_fallback");
        shown.split('"').filter(own).map(str::to_owned).collect()
    }

    #[test]
    fn a1_every_route_there_is_stands_in_the_table() {
        let open: BTreeSet<_> = front::OPEN.iter().map(|(_, path)| (*path).to_owned()).collect();
        let table: BTreeSet<_> = route_table().into_iter().map(|(_, path)| path).filter(|path| !open.contains(path)).collect();
        let (router, _) = routes();
        assert_eq!(shown(&router), table);
        let more = router.route("/beside/{the}/table", axum::routing::get(async || ()));
        assert!(shown(&more).contains("/beside/{the}/table"), "a route that is only on the router would be seen");
    }
}
