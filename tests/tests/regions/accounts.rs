//! An account serves in every region, a revoked device is off in all of them, and the loss of its home changes nothing.

use crate::PROGRAM;
use anyhow::ensure;
use proto::client::server_frame::Frame;
use serde_json::{Value, json};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    rest::{SignedIn, ask},
    session::{message, open_direct, send},
};
use tokio::time::Instant;

const PASSWORD: &str = "correct horse";
/// Within which a revoked device is off.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_account_serves_in_every_region_and_outlives_its_home() {
    let [home, near, far] = REGIONS;
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let http = |region: &str| lab.http(region).expect("a region");
    let edge = |region: &str| lab.edge(region).expect("a region");

    // A node signs once its key has reached it, a moment after it serves.
    let ann = eventually("a registration", patience(), async || {
        SignedIn::register(&http(home), "ann", PASSWORD).await
    })
    .await;
    let ben =
        eventually("another one", patience(), async || SignedIn::register(&http(far), "ben", PASSWORD).await)
            .await;
    let laptop = eventually("a log-in elsewhere", patience(), async || {
        SignedIn::log_in(&http(near), "ann", PASSWORD).await
    })
    .await;
    assert_eq!(laptop.user, ann.user);

    let mut sessions = Vec::new();
    for region in REGIONS {
        sessions.push(laptop.connect(&edge(region)).await.expect("the token is good everywhere"));
    }
    let log = open_direct(&mut sessions[1], &ben.user).await.expect("opens");
    send(&mut sessions[1], message(&log, "hello")).await.expect("is acked");

    let began = Instant::now();
    let path = format!("/v1/devices/{}", laptop.device);
    let (status, answer) = ask(&http(far), "DELETE", &path, &ann.token, &Value::Null).await.expect("answers");
    assert_eq!(status, 204, "{answer}");
    for (region, session) in REGIONS.iter().zip(&mut sessions) {
        let told = tokio::time::timeout(REVOKED_WITHIN, async {
            loop {
                match session.next().await {
                    Ok(frame) => {
                        if let Some(Frame::Error(error)) = frame.frame {
                            return error.code;
                        }
                    }
                    Err(error) => return error.to_string(),
                }
            }
        });
        assert_eq!(told.await.expect("it is told in time"), "device_revoked", "in {region}");
    }
    assert!(began.elapsed() < REVOKED_WITHIN, "{:?}", began.elapsed());
    println!("a revoked device was off in all regions after {:.2} s", began.elapsed().as_secs_f64());

    lab.kill(home).await.expect("kills");
    let died = Instant::now();
    let refreshed = eventually("a refresh", patience(), async || {
        let body = json!({"refresh_token": ann.refresh});
        let (status, answer) = ask(&http(near), "POST", "/v1/refresh", "", &body).await?;
        ensure!(status == 200, "{status} {answer}");
        Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    println!("a refresh was answered {:.2} s after its home died", died.elapsed().as_secs_f64());
    for token in [&ann.token, &refreshed] {
        let (status, own) =
            ask(&http(far), "GET", "/v1/account", token, &Value::Null).await.expect("answers");
        assert_eq!((status, &own["username"]), (200, &json!("ann")));
    }
    let path = format!("/v1/devices/{}", laptop.device);
    let (_, devices) =
        ask(&http(near), "GET", "/v1/devices", &refreshed, &Value::Null).await.expect("answers");
    let is_there =
        devices["devices"].as_array().expect("a list").iter().any(|it| it["device"] == json!(laptop.device));
    assert!(!is_there, "{path}: what was revoked stays so: {devices}");
    let tablet =
        eventually("a log-in", patience(), async || SignedIn::log_in(&http(far), "ann", PASSWORD).await)
            .await;
    eventually("a write", patience(), async || {
        let mut session = tablet.connect(&edge(near)).await?;
        Ok(send(&mut session, message(&log, "again")).await?)
    })
    .await;
    let taken = SignedIn::register(&http(near), "ANN", PASSWORD).await.expect_err("the name is taken");
    assert!(taken.to_string().contains("name_taken"), "{taken}");
    lab.stop().await.expect("stops");
}
