"""Several images drawn as one: their order, their scale, and a single one as it is."""

from PIL import Image

from evaluation.image_sheet import draw_sheet, num_columns

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)


def test_one_image_stays_itself() -> None:
    image = Image.new("L", (4, 3))
    assert draw_sheet([image]) is image


def test_images_stand_row_by_row_in_their_order() -> None:
    sizes = {RED: (30, 20), GREEN: (10, 20), BLUE: (30, 10)}
    sheet = draw_sheet([Image.new("RGB", size, color) for color, size in sizes.items()])
    # two columns of 30 and two rows of 20 with 8 between them
    assert sheet.size == (68, 48)
    assert [sheet.getpixel(place) for place in [(0, 0), (38, 0), (0, 28)]] == [RED, GREEN, BLUE]
    assert sheet.getpixel((38 + 10, 0)) == sheet.getpixel((38, 28)) == WHITE


def test_large_images_are_drawn_at_one_scale() -> None:
    # 4,096 pixels come to 1,024, a quarter, and so do the others
    sheet = draw_sheet([Image.new("RGB", size, RED) for size in [(4096, 400), (400, 2000)]])
    assert sheet.size == (2 * 1024 + 8, 500)


def test_a_grid_is_as_square_as_it_can_be() -> None:
    assert [num_columns(number) for number in (1, 2, 4, 5, 9)] == [1, 2, 2, 3, 3]
