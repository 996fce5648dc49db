"""Names and things that several families use."""

NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Greta",
    "Hugo",
    "Ida",
    "Jonas",
    "Karla",
    "Leo",
    "Mara",
    "Nils",
    "Olga",
    "Paul",
    "Rosa",
    "Sven",
    "Tina",
    "Vera",
)

THINGS = ("apples", "books", "cards", "coins", "cups", "eggs", "hats", "keys", "nuts", "pens", "pears", "stamps")
