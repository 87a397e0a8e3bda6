//! Products for operators and integrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use canteen::Money;
use hub_ledger::{CanteenId, NewProduct, ProductRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Currency;
use crate::access::Operator;
use crate::body::{Body, Path};
use crate::problem::Problem;
use crate::server::Hub;

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductJson {
    /// Its number.
    id: i64,
    /// The canteen that sells it.
    canteen: i64,
    /// Its name.
    name: String,
    /// The heading it stands under.
    category: String,
    /// Its price, in øre.
    price: i64,
    currency: Currency,
    /// Its place among the buttons.
    position: i64,
}

/// What a product is and costs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProductJson {
    /// Its name, unique in the canteen.
    name: String,
    /// The heading it stands under.
    category: String,
    /// Its price, in øre.
    #[schema(example = 2200)]
    price: i64,
    #[serde(default)]
    #[schema(inline)]
    currency: Currency,
    /// Its place among the buttons.
    #[serde(default)]
    position: i64,
}

/// Products.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductsJson {
    products: Vec<ProductJson>,
}

/// The products of a canteen, in the order of the buttons.
#[utoipa::path(get, path = "/v1/canteens/{id}/products", tag = "products",
    params(("id" = i64, Path, description = "The canteen's number")),
    responses((status = 200, body = ProductsJson), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn list(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<Json<ProductsJson>, Problem> {
    let rows = hub
        .books
        .read(move |books| {
            books.check_canteen(reach, CanteenId(id))?;
            books.list_products(CanteenId(id))
        })
        .await?;
    Ok(Json(ProductsJson {
        products: rows.into_iter().map(ProductJson::from).collect(),
    }))
}

/// Adds a product.
#[utoipa::path(post, path = "/v1/canteens/{id}/products", tag = "products",
    request_body = NewProductJson,
    params(("id" = i64, Path, description = "The canteen's number")),
    responses((status = 201, body = ProductJson), (status = 409, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn create(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(canteen): Path<i64>,
    Body(new): Body<NewProductJson>,
) -> Result<(StatusCode, Json<ProductJson>), Problem> {
    let product = NewProduct::from(new);
    let row = hub
        .books
        .write(move |books| {
            books.check_canteen(reach, CanteenId(canteen))?;
            let id = books.create_product(CanteenId(canteen), &product)?;
            books.product_within(reach, id)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(ProductJson::from(row))))
}

/// Changes a product; what was sold keeps its price.
#[utoipa::path(put, path = "/v1/products/{id}", tag = "products", request_body = NewProductJson,
    params(("id" = i64, Path, description = "The product's number")),
    responses((status = 200, body = ProductJson), (status = 404, body = Problem),
        (status = 422, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn change(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Body(new): Body<NewProductJson>,
) -> Result<Json<ProductJson>, Problem> {
    let product = NewProduct::from(new);
    let row = hub
        .books
        .write(move |books| {
            books.product_within(reach, id)?;
            books.change_product(id, &product)?;
            books.product_within(reach, id)
        })
        .await?;
    Ok(Json(ProductJson::from(row)))
}

/// Takes a product off the buttons.
#[utoipa::path(delete, path = "/v1/products/{id}", tag = "products",
    params(("id" = i64, Path, description = "The product's number")),
    responses((status = 204), (status = 404, body = Problem)),
    security(("operator" = [])))]
pub(crate) async fn delete(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    hub.books
        .write(move |books| {
            books.product_within(reach, id)?;
            books.delete_product(id)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<NewProductJson> for NewProduct {
    fn from(new: NewProductJson) -> NewProduct {
        let Currency::Dkk = new.currency;
        NewProduct {
            name: new.name,
            category: new.category,
            price: Money::from_ore(new.price),
            position: new.position,
        }
    }
}

impl From<ProductRow> for ProductJson {
    fn from(row: ProductRow) -> ProductJson {
        ProductJson {
            id: row.id,
            canteen: row.canteen.0,
            name: row.product.name,
            category: row.product.category,
            price: row.product.price.ore(),
            currency: Currency::Dkk,
            position: row.product.position,
        }
    }
}
