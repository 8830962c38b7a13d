# One repository for each image that build_and_push_images.sh makes.
resource "aws_ecr_repository" "this" {
  # checkov:skip=CKV_AWS_136: encrypted with the key of AWS; an own key costs more than the images
  for_each             = toset(["data-populator", "data-query", "flask", "nginx", "simulate"])
  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE" # a tag names one build for ever: a task never restarts into another
  force_delete         = true        # images are rebuilt from the sources

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "keep the last 20 images"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
      action       = { type = "expire" }
    }]
  })
}
