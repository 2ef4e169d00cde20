//! Listeners that are added to a Gateway from beside it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use super::gateway::ListenerSpec;
use super::resource::resource;
use super::route::ObjectReference;
use super::status::ListenerStatus;

resource!(
    /// More listeners of a Gateway, from others than those who have it.
    ///
    /// Source: GEP-1713.
    ListenerSet, "ListenerSet", "v1", "listenersets", NamespaceResourceScope, ListenerSetSpec,
    ListenerSetStatus
);

/// What a [`ListenerSet`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSetSpec {
    /// The Gateway.
    pub parent_ref: ObjectReference,
    /// Where traffic comes in.
    pub listeners: Vec<ListenerSpec>,
}

/// What has become of a [`ListenerSet`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSetStatus {
    /// `Accepted`, `Programmed`.
    pub conditions: Vec<Condition>,
    /// By listener.
    pub listeners: Vec<ListenerStatus>,
}
