"""Prometheus and Grafana find what their files in `infra` name."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.infra.test_compose import SERVICES

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "infra" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "slackline.json").read_text())
SCRAPES: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "infra" / "prometheus" / "prometheus.yml").read_text()
)["scrape_configs"]
WIDTH = 24


def panels() -> list[dict[str, Any]]:
    return list(DASHBOARD["panels"])


def test_every_scraped_service_exists_and_listens_there() -> None:
    for scrape in SCRAPES:
        (discovery,) = scrape["dns_sd_configs"]
        for name in discovery["names"]:
            service = SERVICES[name]
            if name == "api":
                assert str(discovery["port"]) in service["command"]
            else:
                environment = service["environment"]
                assert environment["SLACKLINE_METRICS_PORT"] == str(discovery["port"])
                assert environment["SLACKLINE_METRICS_HOST"] == "0.0.0.0"


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    mounted = dict(
        volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"] if volume[0] == "."
    )
    where = {target: ROOT / source for source, target in mounted.items()}
    (source,) = yaml.safe_load(
        (where["/etc/grafana/provisioning"] / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    assert source["url"].split("//")[1].split(":")[0] in SERVICES
    (provider,) = yaml.safe_load(
        (where["/etc/grafana/provisioning"] / "dashboards" / "slackline.yml").read_text()
    )["providers"]
    folder = where[provider["options"]["path"]]
    assert [path.name for path in folder.iterdir()] == ["slackline.json"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).name).exists()
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("datasource", source["type"])


def test_every_panel_says_what_it_shows_and_has_a_place_of_its_own() -> None:
    assert max(Counter(panel["id"] for panel in panels()).values()) == 1
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
