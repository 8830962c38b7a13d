# HTTPS without a step by hand, off unless hosted_zone_id is set: a certificate for domain_name, which a
# record in the zone proves to be ours, and the name itself. ACM renews it while the record is there.

locals {
  own_certificate = var.hosted_zone_id != null
  certificate_arn = local.own_certificate ? one(aws_acm_certificate_validation.this[*].certificate_arn) : var.certificate_arn
}

resource "aws_acm_certificate" "this" {
  count             = local.own_certificate ? 1 : 0
  domain_name       = var.domain_name
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true # the listener keeps its certificate until it has the new one
  }
}

resource "aws_route53_record" "validation" {
  count   = local.own_certificate ? 1 : 0
  zone_id = var.hosted_zone_id
  name    = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_name
  type    = one(aws_acm_certificate.this[0].domain_validation_options).resource_record_type
  records = [one(aws_acm_certificate.this[0].domain_validation_options).resource_record_value]
  ttl     = 60 # seconds
}

# It waits until ACM has seen the record, some minutes; for ever if the zone is not the public one.
resource "aws_acm_certificate_validation" "this" {
  count                   = local.own_certificate ? 1 : 0
  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = aws_route53_record.validation[*].fqdn

  timeouts {
    create = "20m"
  }
}

resource "aws_route53_record" "name" {
  count   = local.own_certificate ? 1 : 0
  zone_id = var.hosted_zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false # there is one load balancer
  }
}
