module "log_bucket" {
  source = "../.."
  name = "example"
  token = var.token
}

variable "token" {
  type      = string
  sensitive = true
}
