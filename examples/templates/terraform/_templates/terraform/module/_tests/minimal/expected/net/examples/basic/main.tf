module "net" {
  source = "../.."
}
