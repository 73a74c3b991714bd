"""The status page in a real browser, on a real cluster, while its leader dies."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from orchestrator.contract.model import DeviceRequest, GroupSpec, JobSpec, Resources, TaskSpec
from orchestrator.ops.dev import LocalCluster

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.cluster,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    gpus = "count=2,model=A100,memory=40Gi"
    async with LocalCluster(3, 2, driver="process", data=tmp_path / "dev", gateway=True, gpu=gpus) as cluster:
        yield cluster


@pytest.fixture
async def page(cluster: LocalCluster) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1400, "height": 1000})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(cluster.gateway_url)
        yield page
        await browser.close()
        assert problems == []


def job(name: str, resources: Resources, count: int = 1) -> JobSpec:
    task = TaskSpec(name="main", command=("sleep", "1000"), resources=resources)
    return JobSpec(name=name, groups=(GroupSpec(name="main", count=count, tasks=(task,)),))


async def test_the_page_shows_the_cluster_live_and_the_gap_when_its_leader_is_killed(
    cluster: LocalCluster, page: Page, tmp_path: Path
) -> None:
    patient = 30_000
    leader = await cluster.leader()
    await expect(page.locator("#leader")).to_have_text(leader, timeout=patient)
    await expect(page.locator("#peers tbody tr")).to_have_count(3, timeout=patient)
    await expect(page.locator("#nodes tbody tr")).to_have_count(2, timeout=patient)
    await expect(page.locator("#nodes .dev")).to_have_count(4)

    # What is submitted elsewhere appears by itself: one that runs, one that cannot.
    gpu = Resources(cpu_millis=100, memory_mib=64, gpus=DeviceRequest(count=1))
    await cluster.client.submit(job("fits", gpu, count=2))
    await cluster.client.submit(job("toobig", Resources(cpu_millis=10_000_000, memory_mib=64)))
    fits = page.locator("#jobs tbody tr", has_text="fits")
    await expect(fits).to_contain_text("running", timeout=patient)
    pending = page.locator("#pending tbody tr", has_text="toobig/main")
    await expect(pending).to_contain_text("cpu", timeout=patient)
    await expect(page.locator("#events tbody")).to_contain_text("alloc.running", timeout=patient)

    await page.locator("#kill").click()
    await expect(page.locator("#gap")).to_contain_text(f"killed {leader}", timeout=patient)
    await expect(page.locator("#gap")).to_contain_text("acknowledged again after a gap of", timeout=patient)
    # The page went on by itself: it shows another leader, and the killed one back after a while.
    await expect(page.locator("#leader")).not_to_have_text(leader, timeout=patient)
    await expect(page.locator("#peers tbody tr", has_text=leader)).to_contain_text("follower", timeout=60_000)
    await expect(fits).to_contain_text("running")
    await page.screenshot(path=str(tmp_path / "page.png"))


async def test_a_page_of_another_site_cannot_kill_the_leader(cluster: LocalCluster, page: Page) -> None:
    status = await page.evaluate(
        """async url => { try { return (await fetch(url.replace('127.0.0.1', 'localhost') + '/api/v1/dev/kill-leader',
        {method: 'POST', mode: 'no-cors'})).type } catch (error) { return 'refused' } }""",
        cluster.gateway_url,
    )
    assert status in ("opaque", "refused")
    assert all(member.alive for member in cluster.peers)
