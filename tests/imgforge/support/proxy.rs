//! What proxies before a server are made of.

use axum::Router;
use axum::body::Body;
use axum::response::Response;

/// Passes requests on as they are: by no other proxy, and redirects are the caller's.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Serves on a free port of loopback: `127.0.0.1:PORT`, and the task to end it by.
pub async fn serve(app: Router) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    (host, tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
}

/// The server's answer, for the one who asked.
pub fn pass_back(answer: reqwest::Response) -> Response {
    let mut out = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "connection" {
            out = out.header(name, value);
        }
    }
    out.body(Body::from_stream(answer.bytes_stream())).unwrap()
}
