"""The provider is found where a machine without Terraform's registry has it."""

import pytest
from emulated_aws import copy_configuration, environment
from provider import PROVIDER, init, plugin_dir


@pytest.mark.parametrize("place", ["", "tf-plugins", "share/terraform/plugins"])
def test_a_folder_with_the_provider_is_found(tmp_path, place):
    (tmp_path / place / PROVIDER).mkdir(parents=True)
    assert plugin_dir({}, [tmp_path / "none", tmp_path]) == tmp_path / place


def test_the_variable_wins(tmp_path):
    (tmp_path / PROVIDER).mkdir(parents=True)
    assert str(plugin_dir({"TF_PLUGIN_DIR": "/elsewhere"}, [tmp_path])) == "/elsewhere"


def test_without_a_provider_the_registry_is_asked(tmp_path):
    (tmp_path / "registry.terraform.io/hashicorp/random").mkdir(parents=True)
    assert plugin_dir({}, [tmp_path]) is None


def test_a_provider_that_cannot_be_had_is_a_skip_with_its_reason(terraform, tmp_path):
    folder = copy_configuration(tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"no AWS provider .* was not found in any of"):
        init(folder, environment(), plugins=tmp_path)


def test_a_wrong_configuration_is_no_skip(terraform, tmp_path):
    folder = copy_configuration(tmp_path)
    (folder / "wrong.tf").write_text("resource {}")
    with pytest.raises(AssertionError, match=r"wrong\.tf"):
        init(folder, environment())
