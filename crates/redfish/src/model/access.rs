//! How the model reaches a BMC: the gateway's handle, or whatever a test puts in its place.

use crate::document::Document;
use crate::gateway::Bmc;
use crate::{GatewayError, IfMatch, Priority, Reply};
use futures::future::BoxFuture;
use serde_json::Value;

/// The requests that the model makes. `path` may carry a query.
pub trait Access: Send + Sync {
    /// Reads a resource.
    fn get<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Document, GatewayError>>;
    /// Reads what may have no body and whose status means something: a task's monitor. 200 where only documents are known.
    fn look<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move {
            let document = self.get(path, priority).await?;
            Ok(Reply::of_document(&document))
        })
    }
    /// Calls an action or creates a member.
    fn post<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>>;
    /// Changes a resource.
    fn patch<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        if_match: IfMatch,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>>;
    /// Deletes a member.
    fn delete<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>>;
}

impl Access for Bmc {
    fn get<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Document, GatewayError>> {
        Box::pin(Bmc::get(self, path, priority))
    }

    fn look<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(Bmc::look(self, path, priority))
    }

    fn post<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(Bmc::post(self, path, body, priority))
    }

    fn patch<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        if_match: IfMatch,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(Bmc::patch(self, path, body, if_match, priority))
    }

    fn delete<'a>(
        &'a self,
        path: &'a str,
        priority: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(Bmc::delete(self, path, priority))
    }
}
