"""The papers behind the library, and their BibTeX.

A sampler, kernel, order or search names its papers in ``source``, by the labels of ``REFERENCES``:
"Lou et al. 2024; Sun et al. 2023". ``OWN`` is what this library adds.
"""

from dataclasses import dataclass

from jumpsteps.version import __version__

__all__ = ["OWN", "REFERENCES", "Reference"]

OWN = "this library"


@dataclass(frozen=True)
class Reference:
    """A paper, or this library.

    Attributes:
        key: of the BibTeX entry.
        authors: full names of all.
        title: of the paper.
        year: of the label; None for this library.
        where: "ICML" or another conference, a journal with its pages, or empty.
        arxiv: the number on arXiv, or empty.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int | None = None
    where: str = ""
    arxiv: str = ""

    @property
    def line(self) -> str:
        """Authors, title, where and when."""
        arxiv = f"arXiv:{self.arxiv}" if self.arxiv else ""
        place = ", ".join(part for part in (self.where, arxiv, str(self.year or "")) if part)
        return f"{', '.join(self.authors)}. {self.title}. {place or __version__}."

    @property
    def bibtex(self) -> str:
        """An entry of BibTeX."""
        journal = any(letter.isdigit() for letter in self.where)
        kind = "article" if journal else "inproceedings" if self.where else "misc"
        fields = {"author": " and ".join(self.authors), "title": f"{{{self.title}}}"}
        if self.where:
            fields["journal" if journal else "booktitle"] = self.where
        if self.year is not None:
            fields["year"] = str(self.year)
        else:
            fields |= {"author": f"{{{self.authors[0]}}}", "version": __version__}
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
            fields["url"] = f"https://arxiv.org/abs/{self.arxiv}"
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@{kind}{{{self.key},\n{lines}}}"


def paper(
    key: str, authors: str, title: str, year: int, where: str = "", arxiv: str = ""
) -> Reference:
    return Reference(key, tuple(authors.split(", ")), title, year, where, arxiv)


REFERENCES: dict[str, Reference] = {
    OWN: Reference(
        "jumpsteps",
        ("The jumpsteps developers",),
        "jumpsteps: few-step sampling for discrete diffusion models",
    ),
    "Austin et al. 2021": paper(
        "austin2021structured",
        "Jacob Austin, Daniel D. Johnson, Jonathan Ho, Daniel Tarlow, Rianne van den Berg",
        "Structured Denoising Diffusion Models in Discrete State-Spaces",
        2021,
        "NeurIPS",
        "2107.03006",
    ),
    "Ben-Hamu et al. 2025": paper(
        "benhamu2025accelerated",
        "Heli Ben-Hamu, Itai Gat, Daniel Severo, Niklas Nolte, Brian Karrer",
        "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking",
        2025,
        "NeurIPS",
        "2505.24857",
    ),
    "Besnier et al. 2025": paper(
        "besnier2025halton",
        "Victor Besnier, Mickael Chen, David Hurych, Eduardo Valle, Matthieu Cord",
        "Halton Scheduler for Masked Generative Image Transformer",
        2025,
        "ICLR",
        "2503.17076",
    ),
    "Campbell et al. 2022": paper(
        "campbell2022continuous",
        "Andrew Campbell, Joe Benton, Valentin De Bortoli, Tom Rainforth, George Deligiannidis, "
        "Arnaud Doucet",
        "A Continuous Time Framework for Discrete Denoising Models",
        2022,
        "NeurIPS",
        "2205.14987",
    ),
    "Chang et al. 2022": paper(
        "chang2022maskgit",
        "Huiwen Chang, Han Zhang, Lu Jiang, Ce Liu, William T. Freeman",
        "MaskGIT: Masked Generative Image Transformer",
        2022,
        "CVPR",
        "2202.04200",
    ),
    "Chen et al. 2025": paper(
        "chen2025optimal",
        "Sitan Chen, Kevin Cong, Jerry Li",
        "Optimal Inference Schedules for Masked Diffusion Models",
        2025,
        arxiv="2511.04647",
    ),
    "Foresti et al. 2026": paper(
        "foresti2026improved",
        "Alberto Foresti, Mustapha Bounoua, Giulio Franzese, Luca Ambrogioni, Pietro Michiardi",
        "Improved Sampling Schedules for Discrete Diffusion Models",
        2026,
        arxiv="2602.06849",
    ),
    "Gillespie 1977": paper(
        "gillespie1977exact",
        "Daniel T. Gillespie",
        "Exact Stochastic Simulation of Coupled Chemical Reactions",
        1977,
        "The Journal of Physical Chemistry 81(25), 2340-2361",
    ),
    "Gonzalez et al. 2011": paper(
        "gonzalez2011parallel",
        "Joseph Gonzalez, Yucheng Low, Arthur Gretton, Carlos Guestrin",
        "Parallel Gibbs Sampling: From Colored Fields to Thin Junction Trees",
        2011,
        "AISTATS",
    ),
    "Gourevitch et al. 2026": paper(
        "gourevitch2026uniform",
        "Samson Gourevitch, Yazid Janati, Dario Shariatian, Umut Simsekli, Eric Moulines, "
        "Eric P. Xing, Alain Durmus",
        "Uniform Diffusion Models Revisited: Leave-One-Out Denoiser and Absorbing State "
        "Reformulation",
        2026,
        arxiv="2605.22765",
    ),
    "Kim et al. 2025": paper(
        "kim2025klass",
        "Seo Hyun Kim, Sunwoo Hong, Hojung Jung, Youngrok Park, Se-Young Yun",
        "KLASS: KL-Guided Fast Inference in Masked Diffusion Models",
        2025,
        "NeurIPS",
        "2511.05664",
    ),
    "Lavenant & Zanella 2025": paper(
        "lavenant2025error",
        "Hugo Lavenant, Giacomo Zanella",
        "Error Bounds and Optimal Schedules for Masked Diffusions with Factorized Approximations",
        2025,
        arxiv="2510.25544",
    ),
    "Lewis & Shedler 1979": paper(
        "lewis1979simulation",
        "P. A. W. Lewis, G. S. Shedler",
        "Simulation of Nonhomogeneous Poisson Processes by Thinning",
        1979,
        "Naval Research Logistics Quarterly 26(3), 403-413",
    ),
    "Lou et al. 2024": paper(
        "lou2024discrete",
        "Aaron Lou, Chenlin Meng, Stefano Ermon",
        "Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution",
        2024,
        "ICML",
        "2310.16834",
    ),
    "Lu et al. 2022": paper(
        "lu2022dpmsolverpp",
        "Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
        "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        2022,
        arxiv="2211.01095",
    ),
    "Luxembourg et al. 2025": paper(
        "luxembourg2025plan",
        "Omer Luxembourg, Haim Permuter, Eliya Nachmani",
        "Plan for Speed: Dilated Scheduling for Masked Diffusion Language Models",
        2025,
        arxiv="2506.19037",
    ),
    "Nie et al. 2025": paper(
        "nie2025large",
        "Shen Nie, Fengqi Zhu, Zebin You, Xiaolu Zhang, Jingyang Ou, Jun Hu, Jun Zhou, "
        "Yankai Lin, Ji-Rong Wen, Chongxuan Li",
        "Large Language Diffusion Models",
        2025,
        "NeurIPS",
        "2502.09992",
    ),
    "Park et al. 2025": paper(
        "park2025jump",
        "Yong-Hyun Park, Chieh-Hsin Lai, Satoshi Hayakawa, Yuhta Takida, Yuki Mitsufuji",
        "Jump Your Steps: Optimizing Sampling Schedule of Discrete Diffusion Models",
        2025,
        "ICLR",
        "2410.07761",
    ),
    "Ren et al. 2025": paper(
        "ren2025fast",
        "Yinuo Ren, Haoxuan Chen, Yuchen Zhu, Wei Guo, Yongxin Chen, Grant M. Rotskoff, "
        "Molei Tao, Lexing Ying",
        "Fast Solvers for Discrete Diffusion Models: Theory and Applications of High-Order "
        "Algorithms",
        2025,
        "NeurIPS",
        "2502.00234",
    ),
    "Sahoo et al. 2024": paper(
        "sahoo2024simple",
        "Subham Sekhar Sahoo, Marianne Arriola, Yair Schiff, Aaron Gokaslan, Edgar Marroquin, "
        "Justin T. Chiu, Alexander Rush, Volodymyr Kuleshov",
        "Simple and Effective Masked Diffusion Language Models",
        2024,
        "NeurIPS",
        "2406.07524",
    ),
    "Sun et al. 2023": paper(
        "sun2023score",
        "Haoran Sun, Lijun Yu, Bo Dai, Dale Schuurmans, Hanjun Dai",
        "Score-based Continuous-time Discrete Diffusion Models",
        2023,
        "ICLR",
        "2211.16750",
    ),
    "Wang et al. 2025": paper(
        "wang2025remasking",
        "Guanghan Wang, Yair Schiff, Subham Sekhar Sahoo, Volodymyr Kuleshov",
        "Remasking Discrete Diffusion Models with Inference-Time Scaling",
        2025,
        "NeurIPS",
        "2503.00307",
    ),
    "Zhao et al. 2024": paper(
        "zhao2024informed",
        "Yixiu Zhao, Jiaxin Shi, Feng Chen, Shaul Druckmann, Lester Mackey, Scott Linderman",
        "Informed Correctors for Discrete Diffusion Models",
        2024,
        arxiv="2407.21243",
    ),
    "Zheng et al. 2025": paper(
        "zheng2025masked",
        "Kaiwen Zheng, Yongxin Chen, Hanzi Mao, Ming-Yu Liu, Jun Zhu, Qinsheng Zhang",
        "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit "
        "Inaccurate Categorical Sampling",
        2025,
        "ICLR",
        "2409.02908",
    ),
}
"""By label: author and year."""
