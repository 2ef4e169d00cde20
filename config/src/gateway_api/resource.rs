//! A resource of the Gateway API.

/// Declares a resource of the Gateway API with metadata, a specification and a status.
macro_rules! resource {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $version:literal, $($rest:tt)*) => {
        crate::resource::resource!(
            $(#[$doc])* $name, $kind, "gateway.networking.k8s.io", $version, $($rest)*
        );
    };
}

pub(super) use resource;
