"""The page in a real browser: it loads only itself, and mouse and keyboard use it, in every size and colour."""

import pytest
from browser import REASON, browser, find_chromium
from reports import HOSTILE, small_test

from vsr.tools.compare import main as compare

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=REASON)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        metrics = {name: {"type": f"calculate_{name}"} for name in ("psnr", "ssim")}
        small_test(folder, "first", sets=2, num_frames=8, val__metrics=metrics)
        small_test(folder, "second", gain=0.9, val__metrics=metrics)
        compare(["results/first", "results/second"])
    return folder / "results/first/report.html", folder / "compare.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(find_chromium(), tmp_path_factory.mktemp("profile")) as page:
        yield page


def first(script):
    """Returns an expression about the first test set, whose root is `set`."""
    return f"(set => {script})(document.querySelector('section.set'))"


def divider(page):
    return float(page.run(first("set.querySelector('.handle').getAttribute('aria-valuenow')")))


def box_of(page, name):
    page.run(first(f"set.querySelector('{name}').scrollIntoView({{block: 'center'}})"))
    return page.run(first(f"set.querySelector('{name}').getBoundingClientRect().toJSON()"))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_loads_only_itself_fits_the_window_and_raises_no_error(page, pages, number, dark, width):
    page.requests.clear()
    page.open(pages[number], width=width, dark=dark)
    assert [request for request in page.requests if not request.startswith("data:")] == [pages[number].as_uri()]
    assert page.errors == []
    assert page.run("document.documentElement.scrollWidth") <= width
    text, ground = (page.run(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    brightness = [sum(int(level) for level in colour[4:-1].split(",")) for colour in (text, ground)]
    assert (brightness[0] > brightness[1]) == dark and abs(brightness[0] - brightness[1]) > 450
    drawn = (
        "[...set.querySelectorAll('.stage img, .lens canvas')].every(image => (image.naturalWidth || image.width) > 0)"
    )
    assert page.run(first(drawn))


def test_the_divider_follows_the_mouse_and_the_keys(page, pages):
    page.open(pages[0])
    assert divider(page) == 50
    box = box_of(page, ".stage")
    y = box["y"] + box["height"] / 2
    page.drag(box["x"] + box["width"] / 2, y, box["x"] + box["width"] / 4, y)
    assert divider(page) == pytest.approx(25, abs=1)
    assert page.run(first("set.querySelector('.over').style.clipPath")).startswith("inset(0")
    page.run(first("set.querySelector('.handle').focus()"))
    page.press("ArrowRight")
    assert divider(page) == pytest.approx(27, abs=1)
    page.press("End")
    assert divider(page) == 100
    page.press("Home")
    assert divider(page) == 0


MEAN = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.reduce((sum, level) => sum + level) / data.length;
}"""


def colours(page):
    """The mean level of each magnified picture."""
    return page.run(first(f"[...set.querySelectorAll('.lens canvas')].map({MEAN})"))


def test_the_magnifier_follows_the_pointer_and_the_keys_over_every_picture(page, pages):
    page.open(pages[0])
    spot = first("(s => [parseFloat(s.left), parseFloat(s.top)])(set.querySelector('.spot').style)")
    titles = page.run(first("[...set.querySelectorAll('.lens figcaption')].map(caption => caption.textContent)"))
    assert titles == ["LQ", "bicubic", "network", "GT", "difference"]
    box = box_of(page, ".stage")
    page.move_mouse(box["x"] + 5, box["y"] + 5)
    assert page.run(spot) == [0, 0]
    corner = colours(page)
    page.move_mouse(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.8)
    moved = page.run(spot)
    assert moved[0] > 30 and moved[1] > 20
    assert all(abs(a - b) > 0.01 for a, b in zip(corner, colours(page), strict=True)), "each shows another part"
    page.run(first("set.querySelector('.stage').focus()"))
    page.press("ArrowLeft", shift=True)
    assert page.run(spot)[0] < moved[0]
    factor = first("Number(set.querySelector('.factor').value)")
    before = page.run(factor)
    page.press("+")
    assert page.run(factor) == before + 1
    page.press("1")
    assert page.run(first("set.querySelector('.right').value")) == "LQ"
    page.press("x")
    assert page.run(first("set.querySelector('.left').value")) == "LQ"


def test_a_click_on_a_clip_shows_its_pictures_and_curves_of_this_set_only(page, pages):
    page.open(pages[0])
    page.run(first("set.querySelectorAll('button[data-clip]')[1].click()"))
    shown = "[...document.querySelectorAll('select.clip')].map(select => select.value)"
    assert page.run(shown) == [HOSTILE, HOSTILE, "000", "000"]
    assert page.run(first("set.querySelector('.over').alt")).startswith(f"network, clip {HOSTILE}, frame")
    label = page.run(first("set.querySelector('.chart').getAttribute('aria-label')"))
    assert label.startswith(f"psnr of the 8 frames of clip {HOSTILE}")
    page.run(first("[...set.querySelectorAll('.shots button')].at(-1).click()"))
    assert page.run(first("set.querySelectorAll('.shots [aria-pressed=true]').length")) == 1


def test_curves_are_read_by_mouse_and_keys_and_hidden_by_their_names(page, pages):
    page.open(pages[0])
    reading = first("set.querySelector('.reading').textContent")
    box = box_of(page, ".chart")
    page.move_mouse(box["x"] + box["width"] - 16, box["y"] + 40)
    assert page.run(reading).startswith("Frame 00000007: bicubic ")
    page.move_mouse(1, 1)
    page.run(first("set.querySelector('.chart').focus()"))
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.run(reading).startswith("Frame 00000001: bicubic ")
    paths = first("set.querySelectorAll('.chart path').length")
    assert page.run(paths) == 3
    page.run(first("set.querySelector('.lines button').click()"))
    assert page.run(paths) == 2
    page.run(first("(m => {m.value = 'ssim'; m.dispatchEvent(new Event('change'))})(set.querySelector('.metric'))"))
    assert page.run(first("set.querySelector('.chart').getAttribute('aria-label')")).startswith("ssim of")


def test_the_keyboard_reaches_every_control(page, pages):
    page.open(pages[0])
    seen = set()
    for _ in range(60):
        page.press("Tab")
        seen |= set(page.run("document.activeElement.className").split())
    assert {"clip", "left", "right", "swap", "factor", "stage", "handle", "metric", "chart", "scroll"} <= seen


def test_a_comparison_slides_between_the_networks(page, pages):
    page.open(pages[1])
    both = first("['left', 'right'].map(name => set.querySelector('.' + name).value)")
    assert page.run(both) == ["first", "second"]
    assert page.run(first("set.querySelectorAll('.lens canvas').length")) == 7


def test_the_frames_on_the_axis_are_evenly_spaced(page, pages):
    page.open(pages[0])
    texts = page.run(first("[...set.querySelectorAll('.chart text')].map(text => text.textContent)"))
    assert [int(text) for text in texts if len(text) == 8] == [0, 2, 4, 6]


@pytest.mark.parametrize("number", [0, 1])
def test_on_a_phone_no_number_and_no_picture_has_a_row_of_its_own(page, pages, number):
    page.open(pages[number], width=390)
    rows = "[...set.querySelectorAll('%s')].map(part => Math.round(part.getBoundingClientRect().top))"
    for parts in (".tiles li", ".lens canvas"):
        tops = page.run(first(rows % parts))
        assert all(tops.count(top) > 1 for top in tops), parts


def test_help_for_the_keyboard_is_hidden_on_touch_screens(page, pages):
    shown = first("getComputedStyle(set.querySelector('.keys')).display !== 'none'")
    page.open(pages[0])
    assert page.run(shown)
    page.touch(True)
    page.open(pages[0], width=390)
    assert not page.run(shown)
    page.touch(False)


def test_the_line_below_the_title_uses_the_width_of_the_page(page, pages):
    page.open(pages[0])
    widths = "['.lead', 'body > main'].map(name => document.querySelector(name).getBoundingClientRect().width)"
    lead, main = page.run(widths)
    assert lead == main
