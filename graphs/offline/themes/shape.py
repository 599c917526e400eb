"""Hypotheses of distribution: tails, lotteries and the shape of returns."""

from graphs.offline.themes.theme import Theme

SHAPE = (
    Theme(
        key="skewness",
        statement="Instruments of positive skewness are overpaid like lottery tickets and lose afterwards.",
        observation="Right-skewed returns go with low later returns.",
        knowledge="Skewness preference (Barberis and Huang, 2008; Amaya and others, 2015).",
        justification="Investors overweight small chances of large gains and pay too much for them.",
        specification="Skewness of daily returns over a window, sign turned.",
        horizon_days=20,
        concepts=("asymmetry", "move"),
        grammar={
            "<alpha>": ("-<skew>", "-TS_MEAN(<skew>, <mid>)", "-RANK(<skew>) - RANK(<other>)", "-DELTA(<skew>, <mid>)"),
            "<skew>": (
                "TS_SKEW(<move>, <base>)",
                "(TS_MEAN(<move>, <base>) - TS_MEDIAN(<move>, <base>)) / TS_STD(<move>, <base>)",
            ),
            "<move>": ("$return", "$close / $open - 1", "TS_PCTCHANGE($close, 3)"),
            "<other>": ("TS_MAX($return, <base>)", "TS_MEAN($return, <short>)"),
            "<base>": ("20", "40", "60", "120"),
        },
    ),
    Theme(
        key="lottery",
        statement="Instruments with an extreme daily gain are bought as a lottery and disappoint.",
        observation="The largest daily gain of the past month foretells low returns.",
        knowledge="The MAX effect (Bali, Cakici and Whitelaw, 2011).",
        justification="Gamblers bid for payoffs of the extreme kind that they have just seen.",
        specification="Maximum daily return of a window, sign turned.",
        horizon_days=20,
        concepts=("extreme", "asymmetry", "move"),
        grammar={
            "<alpha>": (
                "-<top>",
                "-TS_MEAN(<top>, <short>)",
                "-(<top> + <bottom>)",
                "-RANK(<top>) - RANK(TS_SKEW($return, <long>))",
            ),
            "<top>": (
                "TS_MAX(<gain>, <d>)",
                "TS_MEAN(TS_MAX(<gain>, <short>), <d>)",
                "TS_MAX(<gain>, <d>) - TS_MEDIAN(<gain>, <d>)",
                "TS_MAX(TS_SUM($return, 3), <d>)",
            ),
            "<bottom>": ("TS_MIN($return, <d>)", "TS_MEAN(TS_MIN($return, <short>), <d>)"),
            "<gain>": ("$return", "$high / DELAY($close, 1) - 1", "$close / $open - 1"),
        },
    ),
    Theme(
        key="tail-risk",
        statement="Instruments with fat tails of extreme losses keep falling: bad news in the tail is digested slowly.",
        observation="A large loss in the left tail is followed by more weakness.",
        knowledge="Left-tail momentum (Atilgan, Bali, Demirtas and Gunaydin, 2020).",
        justification="Investors underestimate how long the cause of a crash lasts and buy the fall too early.",
        specification="Minimum of daily returns, or average minimum of short spells, in a window.",
        horizon_days=20,
        concepts=("extreme", "asymmetry", "move"),
        grammar={
            "<alpha>": (
                "<worst>",
                "TS_MEAN(<worst>, <short>)",
                "<worst> / TS_MEAN(ABS($return), <base>)",
                "RANK(<worst>) - RANK(TS_KURT($return, <long>))",
            ),
            "<worst>": (
                "TS_MIN(<move>, <base>)",
                "TS_MEAN(TS_MIN(<move>, <short>), <base>)",
                "TS_MIN(TS_SUM(<move>, 3), <base>)",
            ),
            "<move>": ("$return", "$low / DELAY($close, 1) - 1", "$close / $open - 1"),
            "<base>": ("20", "40", "60", "120"),
        },
    ),
    Theme(
        key="kurtosis",
        statement="Kurtosis shows moves in leaps: instruments whose tails are fat underperform those of even moves.",
        observation="Prices that mostly rest and sometimes leap earn less.",
        knowledge="Realised higher moments (Amaya, Christoffersen, Jacobs and Vasquez, 2015).",
        justification="Leaps attract gamblers, and the leap itself is more often hype than news.",
        specification="Kurtosis of daily moves over a window, sign turned.",
        horizon_days=20,
        concepts=("asymmetry", "move"),
        grammar={
            "<alpha>": (
                "-<fatness>",
                "-TS_MEAN(<fatness>, <mid>)",
                "-RANK(<fatness>) - RANK(TS_SKEW(<move>, <base>))",
                "-DELTA(<fatness>, <mid>)",
            ),
            "<fatness>": (
                "TS_KURT(<move>, <base>)",
                "TS_MAX(ABS(<move>), <base>) / TS_MEAN(ABS(<move>), <base>)",
                "TS_MEAN(ABS(<move>), <base>) / TS_MEDIAN(ABS(<move>), <base>)",
            ),
            "<move>": ("$return", "$close / $open - 1", "$open / DELAY($close, 1) - 1"),
            "<base>": ("20", "40", "60", "120"),
        },
    ),
    Theme(
        key="gain-loss-asymmetry",
        statement="An asymmetry of moves, gains that outweigh losses for weeks, is given back.",
        observation="The balance of up moves and down moves differs from the net move and lasts.",
        knowledge="Relative strength index (Wilder, 1978) and gain-loss asymmetry.",
        justification="Prices bid up too steadily hold gains that holders are eager to realise.",
        specification="Sum of gains over the sum of all absolute moves, sign turned.",
        horizon_days=5,
        concepts=("asymmetry", "move"),
        grammar={
            "<alpha>": (
                "-<balance>",
                "-TS_MEAN(<balance>, <short>)",
                "-TS_RANK(<balance>, <long>)",
                "-RANK(<balance>) - RANK(TS_SKEW($return, <long>))",
            ),
            "<balance>": (
                "TS_SUM(MAX(<move>, 0), <d>) / TS_SUM(ABS(<move>), <d>)",
                "TS_SUM(MAX(<move>, 0), <d>) + TS_SUM(MIN(<move>, 0), <d>)",
                "TS_SUM(<move> > 0, <d>) / TS_SUM(<move> < 0, <d>)",
                "DECAYLINEAR(MAX(<move>, 0), <d>) / DECAYLINEAR(ABS(<move>), <d>)",
            ),
            "<move>": ("$return", "$close / $open - 1"),
        },
    ),
)
