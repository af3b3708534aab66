"""The vocabulary of the miniature's text encoders: the world's words, everyday words, letter groups, letters.

Only the world's words are trained. The rest keeps captions from outside the world short and distinguishable.
"""

from __future__ import annotations

from fcacli.mini.scene import actions

_EVERYDAY = """
a about above across after against all along an and another any apart around arm as at attached away back bag ball band
banana bar basket be beer before behind belt bend bending beside between big black board body book both bottle bottom
bottles bowl box bread break breaking bring broken brown brush bucket burying bus button but by cabinet cable cake
camera can candle cap car card cards carrot case cat catch chair chalk change charger chicken child choose chop circle
clean cloth close closed closing coffee coin coins cold collide coming container cook cooking cookie cover cream cube
cup cut cutting dark deform desk dig dirt dog doing doll door down drawer drink drop dry dust edge egg eight empty end
ends enough eraser every face fails fall falling falls far fast feet few finger fingers fish fit five flat flip flipping
floor flour flower fold folding food foot for fork four fridge from front fruit full game garlic gently get glass
glasses glue go going gold grape gray grey ground hair half hammer hand hands hanging hard hat head heavy held hit
hitting hold holding hole hot house in inside into iron is it jar juice key keys kettle kitchen knife knob lamp large
laying leaf left lemon letter letting lid lie light lighter line liquid little long looks lot machine magnet make man
many marker mat match meat metal middle milk mirror mix mixing mobile more mouse mouth move moved moving much mug
multiple nail napkin near neck next nine no not nothing number object of off oil on one onion onto open opening orange
other out oven over pan pants paper part past peel peeling pen pencil pepper person phone photo pick picking picture
piece pieces pillow pink pipe place plant plastic plate play poking pot potato pour pouring present press pretend
pretending purse put puts putting quick quickly rag remote removing rice rinse ring robot rock roll rolling room rope
round rubber ruler running salt same sand sauce scissors scoop screw shaking shape sheet shelf ship shoe short show
showing side silver similar sink six slanted slide slides sliding slow slowly small soap sock soft some something
somewhere spatula spill spilling spin spinning spins split spoon spread sprinkling squeeze squeezing stack stacking
stand staple stapler start starts stays steel stick sticky stir stone stop stops stove straight string stuff sugar
support surface switch table take taking tape tea tear tearing ten that the their them then they thing things three
through throw throwing tilt tilting time tin tip to together tomato tool top touch touching towel towards toy tray tree
trash trying tube turn turning twist twisting two uncover under underneath unfolding until up upright upside use using
vase very wall wallet wash washing watch water way were wheel where while white who wide window wine wipe wiping wire
with without woman wood wooden work wrist yogurt zip
"""
_GROUPS = """
ing ed er est ly ion tion ment ness able ful less ous ive ity al ic en es th sh ch wh ck ng nk nd nt st sp sc sk sl sm
sn sw tr dr br cr fr gr pr pl bl cl fl gl qu ph ee ea oo ou ai ay ei ie oa oi ow ew ey ar or ir ur an in on un at it et
ot ut am im om um ab ad ag ap as is us os el il ol ul le re te se ve ke me ne de ge ce pe be he la ra ta sa na ma da pa
ba ca ha li ri ti si ni mi di pi bi lo ro to so no mo do po bo co ho lu ru tu su nu mu ll ss tt pp ff rr nn mm 'll n't
's ight ound ould ence ance ever con com pro pre dis over out sub inter super trans auto
"""
_LETTERS = (
    [chr(c) for c in range(0x21, 0x7F)]
    + [chr(c) for c in range(0xA1, 0x180) if c != 0xAD]
    + [chr(c) for c in range(0x391, 0x3CA) if c != 0x3A2]
    + [chr(c) for c in range(0x410, 0x450)]
    + list("–—‘’“”…•€→←↑↓")
)


def vocabulary() -> list[tuple[str, float]]:
    """Unigram pieces with scores, T5's order: <pad> 0, </s> 1, <unk> 2, then words, letter groups, letters."""
    world = sorted({word for action in actions("adapt") for word in action.caption.split()})
    words = list(dict.fromkeys([*world, *_EVERYDAY.split()]))
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0)]
    pieces += [(f"▁{word}", -6.0) for word in words]
    pieces += [(group, -8.0) for group in dict.fromkeys([*_EVERYDAY.split(), *_GROUPS.split()]) if 1 < len(group) <= 5]
    pieces += [(letter, -12.0) for letter in _LETTERS]
    return pieces
