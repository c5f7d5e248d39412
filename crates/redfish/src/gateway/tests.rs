mod basics;
mod faults;
mod later;
mod logins;
mod places;
mod server;
mod trust;

use super::*;
use crate::{Credentials, GatewayError, Priority, Trust};
use serde_json::json;
use server::{Answer, Received, Server};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const PASSWORD: &str = "calvin-secret";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const SYSTEM: &str = "/redfish/v1/Systems/1";

fn target(server: &Server) -> Target {
    Target {
        name: "bmc".to_owned(),
        url: server.url(),
        credentials: Credentials::new("root", PASSWORD),
        trust: Trust::Plain,
    }
}

/// Short deadlines, so that tests of silence are short; nothing asserts how long anything takes.
fn config() -> GatewayConfig {
    let ms = Duration::from_millis;
    GatewayConfig {
        deadlines: Deadlines {
            connect: ms(200),
            headers: ms(200),
            change: ms(200),
            exchange: ms(600),
            call: Duration::from_secs(20),
            logout: ms(300),
        },
        ..GatewayConfig::default()
    }
}

/// Deadlines that no test on a busy machine runs into.
fn patient() -> GatewayConfig {
    GatewayConfig::default()
}

fn gateway() -> Gateway {
    Gateway::new(patient())
}

/// A BMC that behaves, but for what `except` answers.
async fn mostly_conforming(
    except: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
) -> Server {
    let logins = AtomicUsize::new(0);
    Server::start(move |request| {
        except(request).unwrap_or_else(|| Answer::conforming(request, &logins, &|_| true))
    })
    .await
}
