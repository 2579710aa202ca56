//! The cache: products by id in the memory of this process, bounded. Nothing here knows the mode.

use std::cmp::Ordering;

use axum::Json;
use axum::extract::State;
use common::ApiError;
use common::api::ProductChange;
use common::error::Problems;
use common::web::Path;
use moka::future::Cache;
use moka::ops::compute::Op;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Products that are kept; the least used go first.
const CAPACITY: u64 = 100_000;

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CachedProduct {
    #[serde(rename = "id")]
    product_id: i64,
    name: String,
    stock: i64,
    version: i64,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Now,
    /// This very version is there.
    Before,
    /// A newer one is there.
    Outdated,
    /// This very version is there with other contents.
    Other,
}

/// Products by id. Cheap to clone.
#[derive(Clone)]
pub struct Products(Cache<i64, Known>);

/// The newest version that is known, and its product if a change described it.
#[derive(Clone)]
struct Known {
    version: i64,
    content: Option<(String, i64)>,
}

impl Known {
    /// Whether a change contradicts this version.
    fn differs(&self, change: &ProductChange) -> bool {
        let Some((name, stock)) = &self.content else { return false };
        change.name.as_ref().is_some_and(|other| other != name)
            || change.stock.is_some_and(|other| other != *stock)
    }
}

impl Products {
    #[expect(clippy::new_without_default, reason = "an empty cache is made once, on purpose")]
    pub fn new() -> Products {
        Products(Cache::new(CAPACITY))
    }

    /// Replaces a product unless a newer one is there. A change that does not say what the product is now only removes what
    /// is there.
    pub async fn apply(&self, change: &ProductChange) -> Applied {
        let mut applied = Applied::Now;
        let decide = |there: Option<moka::Entry<i64, Known>>| {
            let there = there.map(moka::Entry::into_value);
            let known = there.as_ref().map_or(0, |there| there.version);
            applied = match change.version.map(|version| version.cmp(&known)) {
                None | Some(Ordering::Greater) => Applied::Now,
                Some(Ordering::Equal) if there.is_some_and(|there| there.differs(change)) => Applied::Other,
                Some(Ordering::Equal) => Applied::Before,
                Some(Ordering::Less) => Applied::Outdated,
            };
            let version = change.version.unwrap_or(known);
            let put = || Op::Put(Known { version, content: change.name.clone().zip(change.stock) });
            std::future::ready(if applied == Applied::Now { put() } else { Op::Nop })
        };
        self.0.entry(change.product_id).and_compute_with(decide).await;
        applied
    }

    async fn get(&self, product_id: i64) -> Option<CachedProduct> {
        let Known { version, content } = self.0.get(&product_id).await?;
        content.map(|(name, stock)| CachedProduct { product_id, name, stock, version })
    }
}

/// The paths that only look, the same in both modes.
pub fn routes(products: Products) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get)).with_state(products)
}

/// One product, if it is in the cache
#[utoipa::path(get, path = "/cache/products/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = CachedProduct), Problems))]
async fn get(State(products): State<Products>, Path(id): Path<i64>) -> Result<Json<CachedProduct>, ApiError> {
    let found = products.get(id).await;
    Ok(Json(found.ok_or_else(|| ApiError::NotFound(format!("product {id} is not in the cache").into()))?))
}
