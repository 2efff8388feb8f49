# Front Door forwards the SAS that berth signs to the store. Its only route is to data/.
# See deploy/cdn/frontdoor.json.

locals {
  cdn  = var.cdn ? 1 : 0
  host = azurerm_storage_account.blobs.primary_blob_host
}

resource "azurerm_cdn_frontdoor_profile" "cdn" {
  count               = local.cdn
  name                = "berth-${var.account}"
  resource_group_name = var.resource_group
  sku_name            = "Standard_AzureFrontDoor"
  tags                = var.tags
}

resource "azurerm_cdn_frontdoor_endpoint" "cdn" {
  count                    = local.cdn
  name                     = "berth-${var.account}"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.cdn[0].id
  tags                     = var.tags
}

resource "azurerm_cdn_frontdoor_origin_group" "cdn" {
  count                    = local.cdn
  name                     = "storage"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.cdn[0].id

  load_balancing {
    sample_size                 = 4
    successful_samples_required = 3
  }
}

resource "azurerm_cdn_frontdoor_origin" "cdn" {
  count                          = local.cdn
  name                           = "account"
  cdn_frontdoor_origin_group_id  = azurerm_cdn_frontdoor_origin_group.cdn[0].id
  enabled                        = true
  host_name                      = local.host
  origin_host_header             = local.host
  https_port                     = 443
  certificate_name_check_enabled = true
}

resource "azurerm_cdn_frontdoor_route" "cdn" {
  count                         = local.cdn
  name                          = "blobs"
  cdn_frontdoor_endpoint_id     = azurerm_cdn_frontdoor_endpoint.cdn[0].id
  cdn_frontdoor_origin_group_id = azurerm_cdn_frontdoor_origin_group.cdn[0].id
  cdn_frontdoor_origin_ids      = [azurerm_cdn_frontdoor_origin.cdn[0].id]
  patterns_to_match             = ["/${var.container}/data/*"]
  supported_protocols           = ["Https"]
  forwarding_protocol           = "HttpsOnly"
  https_redirect_enabled        = false
  link_to_default_domain        = true

  cache {
    query_string_caching_behavior = "UseQueryString"
  }
}
