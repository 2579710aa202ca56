//! The HTTP server alone: a click is parsed and answered.

use std::net::SocketAddr;

use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

/// What `POST /track_click` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "parsed, as the service must, and not looked at")]
struct NewClick {
    user_id: i64,
    page: String,
    session_id: Option<String>,
}

pub(crate) async fn serve(args: Args) -> anyhow::Result<Value> {
    let listener = TcpListener::bind(args.listen).await?.tap_io(|stream| {
        // As the services have it; without it the server is only slower.
        stream.set_nodelay(true).ok();
    });
    let app = Router::new()
        .route("/track_click", post(async |Json(_): Json<NewClick>| Json(json!({"status": "tracked"}))));
    axum::serve(listener, app).await?;
    Ok(Value::Null)
}
