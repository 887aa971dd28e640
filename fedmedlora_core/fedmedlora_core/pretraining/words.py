"""Word lists of the pretraining: everyday things to train on, clinical words for the tokenizer only.

The model learns to copy, to mark spans and to list what belongs to a bracketed word from *everyday*
sentences. ``CLINICAL_WORDS``, ``HOSPITAL_WORDS`` and ``LABEL_WORDS`` are seen by the byte-pair trainer alone,
so that clinical text is not cut into single letters; no sentence is ever built from them.
"""

from __future__ import annotations

__all__ = [
    "ADJECTIVES",
    "CLINICAL_WORDS",
    "CONTEXTS",
    "ENDINGS",
    "FILLERS",
    "HEADINGS",
    "HOSPITAL_WORDS",
    "KINDS",
    "LABEL_WORDS",
    "MODIFIERS",
    "NEUTRAL",
    "PLAIN",
    "SYMBOLS",
]


def _phrases(text: str) -> tuple[str, ...]:
    """Split at commas; line breaks are blanks."""
    return tuple(" ".join(part.split()) for part in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    """Split at blanks."""
    return tuple(text.split())


KINDS: tuple[str, ...] = ("animal", "food", "tool", "place", "vehicle", "person")

FILLERS: dict[str, tuple[str, ...]] = {
    "animal": _phrases(
        """
        dog, cat, horse, grey wolf, otter, red fox, goose, field mouse, snail, sheep, mountain goat,
        owl, barn owl, heron, toad, carp, bee, black ant, hedgehog, weasel, pony, donkey, bull calf,
        young seal, lizard, crow, rook, swan, long eared bat, squirrel, GSD, sea turtle, hen, wild boar
        of the north
        """
    ),
    "food": _phrases(
        """
        bread, rye bread, butter, apple, plum cake, soup, bean soup, cheese, goat cheese, rice, noodles,
        carrot, onion, fried egg, oat porridge, honey, jam, pear, green salad, potato stew, milk, cream,
        pancake, walnut, olives, cherry pie, lentils, PB sandwich, sour cream with chives, mushroom,
        tomato, cucumber
        """
    ),
    "tool": _phrases(
        """
        hammer, saw, band saw, chisel, pliers, drill, hand drill, screwdriver, wrench, file, plane,
        rake, spade, garden hose, ladder, bucket, axe, broom, paint brush, tape measure, clamp, shears,
        needle, sewing machine, level, soldering iron, hoe, knife, whetstone, CNC mill, pair of tongs,
        crowbar
        """
    ),
    "place": _phrases(
        """
        river, old mill, harbour, market square, hill, north gate, village, library, school yard,
        forest, lake shore, station, bridge, stone bridge, orchard, cellar, tower, valley, beach,
        island, east wing, road, field, barn, kitchen, upper floor, garden of the inn, cave, town hall,
        pier, church, meadow
        """
    ),
    "vehicle": _phrases(
        """
        bus, night bus, tram, bicycle, cart, ox cart, truck, fire truck, boat, sail boat, ferry, train,
        goods train, car, van, sledge, tractor, canoe, wagon, glider, airship, moped, taxi, barge, cable
        car, scooter, tug, RV, SUV, two door coach, raft, tandem
        """
    ),
    "person": _phrases(
        """
        baker, miller, teacher, old sailor, farmer, neighbour, aunt, uncle, nephew, clerk, post woman,
        shepherd, mason, gardener, weaver, singer, cook, head cook, painter, guide, young actor,
        student, twin sister, captain, smith, tailor, mayor, judge, drummer, VP, night guard of the
        mill, porter
        """
    ),
}
"""Names of each everyday kind: one to five words, some of them acronyms."""

CONTEXTS: dict[str, tuple[str, ...]] = {
    "animal": _phrases(
        """
        the {} barked at night, we fed the {}, a {} crossed the path, {} was tame, the {} sleeps in
        straw, heard a {} outside, the herd lost one {}, {} with thick fur, caught by a {}, no {} was
        seen
        """
    ),
    "food": _phrases(
        """
        she cooked {}, we ate {} at noon, {} tasted sour, a bowl of {}, baked {} again, no {} left to
        eat, {} for supper, spread {} on it, fried with {}, he was hungry for {}
        """
    ),
    "tool": _phrases(
        """
        fixed with a {}, he used the {}, sharpen the {}, {} needs oil, cut by {}, the handle of the {}
        broke, borrowed a {}, no {} at hand to repair it, work done using {}, put the {} in the shed
        """
    ),
    "place": _phrases(
        """
        they walked to the {}, near the {}, born in the {}, a view of the {}, left from {}, lives at the
        {}, the {} lies further north, snow around the {}, not far from the {}, moved into the {}
        """
    ),
    "vehicle": _phrases(
        """
        came by {}, the {} left late, drove the {}, {} was full, a ticket for the {}, parked the {}, got
        off the {}, the wheels of the {}, no {} runs today, travelled on a {}
        """
    ),
    "person": _phrases(
        """
        the {} said so, asked the {}, her {} agreed, a letter from the {}, {} was angry, the {} laughed,
        met with the {}, thanked the {}, {} does not remember, the {} is fifty years old
        """
    ),
}
"""Clauses that give the kind away: a made-up name in ``{}`` can still be told."""

ENDINGS: dict[str, tuple[str, ...]] = {
    "animal": ("upo", "urrel"),
    "food": ("ello", "ambo"),
    "tool": ("ix", "adge"),
    "place": ("oth", "aven"),
    "vehicle": ("obil", "uck"),
    "person": ("wort", "egel"),
}
"""How made-up names of a kind may end: the kind of a name never seen can be told by its last piece."""

NEUTRAL: tuple[str, ...] = (
    "{}",
    "also {}",
    "a {}",
    "the {} and then",
    "there is a {}",
    "{} as before",
    "saw {}",
    "{} again",
    "about the {}",
    "{} noted",
    "w/ {}",
    "no {}",
    "{} , too",
    "this {}",
    "another {} here",
    "re : {}",
    "s/p {}",
    "more {}",
)
"""Clauses that say nothing about the kind; only listed names are put in."""

PLAIN: tuple[str, ...] = _phrases(
    """
    it rained all day, nothing else was said, they will come back soon, the light went out, all quiet,
    that was the end of it, work goes on, we waited for a long time, no change, it is late, as planned,
    the door stayed shut, see the list below, please write again, not known, everything is in order
    """
)

MODIFIERS: dict[str, tuple[str, ...]] = {
    "color": _phrases(
        """
        red, blue, dark green, yellow, pale grey, black, white, brown, bright orange, violet
        """
    ),
    "size": _phrases(
        """
        small, large, tiny, very big, 3 cm, 12 inch, wide, 2.5 m, short, half size
        """
    ),
    "count": _phrases(
        """
        two, three, 4, a pair of, several, 12, one, some, 30, no
        """
    ),
    "when": _phrases(
        """
        last monday, in the morning, at noon, since 1998, for 3 days, yesterday, every week, on 04/12,
        twice a day, 2 hours ago, at 7 pm, all winter
        """
    ),
    "cost": _phrases(
        """
        5 dollars, for 20 cents, free, 3.50 each, 100 per box, half price, 7 coins
        """
    ),
    "state": _phrases(
        """
        broken, new, lost, quite old, wet, possibly stolen, clean, not ready, missing, in use, worn out
        """
    ),
}
"""What may belong to a bracketed head, by the six everyday relation names."""

ADJECTIVES: tuple[str, ...] = _phrases(
    """
    good, plain, nice, usual, other, same, first, next
    """
)

HEADINGS: tuple[str, ...] = _phrases(
    """
    NOTES, Plan, TODAY, Report, LIST, Summary, A/P, Item, SEEN, Remarks, News, Hx, S, O
    """
)

SYMBOLS: tuple[str, ...] = _words(". , ; : - / ( ) % + < > = * # & 's ° µg ≥ x2 ? [ ] ~ ^ @ $ | _ !")

LABEL_WORDS: tuple[str, ...] = _words(
    """
    problem treatment test drug bodyloc condition course dosage duration form frequency labvalue
    negation reference_range route severity strength subject temporal uncertain none
    """
)
"""Names of the clinical schema; the sampler never uses one as a kind or as an answer."""

CLINICAL_WORDS: tuple[str, ...] = _words(
    """
    pts year old yo male female man woman admitted discharged presented presents presenting are has have
    continued denied reported noted found any due new chronic improved intermittent sudden onset
    bilateral posterior proximal distal lateral medial mid head joint muscle spine brain throat eye ear
    nose pancreas dyspnea shortness breath sob chills diarrhea constipation seizures tingling itching
    bleeding palpitations tachycardia bradycardia hypotension hyperlipidemia mellitus dm copd atrial
    fibrillation mi infarction ischemia failure sepsis uti cellulitis tumor cancer lesion nodule
    embolism pe dvt thrombosis leukocytosis hyponatremia hyperkalemia acidosis bronchitis emphysema
    appendicitis cholecystitis pancreatitis hepatitis cirrhosis ulcer reflux gerd colitis dehydration
    malnutrition obesity depression anxiety delirium dementia epilepsy parkinson sclerosis meningitis
    arthritis osteoporosis gout psoriasis eczema murmur regurgitation cardiomyopathy pericarditis
    endocarditis aneurysm dissection claudication ecg echocardiogram cxr xray colonoscopy endoscopy egd
    angiogram angiography catheterization cath stress urine ua cbc bmp cmp wbc hgb hemoglobin hematocrit
    platelets plt creatinine cr bun troponin ddimer ptt alt ast tsh hba1c a1c cholesterol ldl esr crp
    spirometry panel bp hr rr temp saturation o2 sat vitals exam examination excision replacement
    angioplasty pacemaker appendectomy cholecystectomy colectomy mastectomy hysterectomy amputation
    arthroplasty laparoscopy laparotomy physiotherapy rehabilitation radiation chemo fluids antibiotics
    anticoagulation steroids vaccine clopidogrel coumadin apixaban metoprolol atenolol carvedilol
    lisinopril enalapril losartan valsartan amlodipine diltiazem spironolactone hydrochlorothiazide hctz
    atorvastatin simvastatin lipitor digoxin amiodarone nitroglycerin glipizide levothyroxine albuterol
    ipratropium omeprazole pantoprazole famotidine fentanyl tramadol acetaminophen tylenol naproxen
    gabapentin levetiracetam phenytoin carbamazepine lamotrigine donepezil sertraline fluoxetine
    citalopram lorazepam haloperidol amoxicillin ampicillin ceftriaxone cephalexin vancomycin
    ciprofloxacin levofloxacin azithromycin metronidazole clindamycin doxycycline unit mmol meq dl
    tablet tab tabs capsule capsules cap caps cream inhaler solution suspension sc sq pr qid nightly
    monthly hourly months years evening bedtime q4h q6h q8h q12h oral subcutaneous topical rectal
    sublingual inhaled mother father brother sister family uncle aunt grandmother unlikely rule concern
    suggestive consistent abnormal range reference significant transient gradual tonight follow followup
    clinic ward icu ed emergency department hospital home service cardiology neurology oncology medicine
    dr nurse dose doses increase increased decrease decreased held resume monitor scheduled ordered
    managed taking tolerated well post complains complaint allergic allergies he she his her they it
    these who will would should can could may also however
    """
)
"""General words of clinical notes, for the byte-pair trainer only."""

HOSPITAL_WORDS: tuple[str, ...] = _words(
    """
    ve mg x A P AFP AUC BRAF CA CC CT Course DATA Diagnosis Dx HER Indication KRAS MEDS Medication PDL
    PET Pat Preoperative Procedure Regimen St Staging U ml a abdomen abdominal ablation abscess absence
    absent accomplished acute addition addressed aden adhesions administered administration admission
    advanced advised afib after against ago al albumin algia alteplase am amio anamn and anemia
    anesthesia angina angio ankle anterior aort aphasia appendix approximately arin arising arm arone
    arthr as asa aspirin assessment asthenia asthma at ataxia atri atrium atrophy away axilla axillary
    azepam azole ba back baclofen bad baseline be because bed been before better bid bilirubin biopsy
    bladder block blood bnp board bone bor botox bowel brachytherapy brainstem breast brisk by bypass c
    o w cabg cachexia cad caine calcium came cancelled cannot carcinoma cardi care carried cefazolin
    cell centimeters cerebell change chemotherapy chest chf cholangiogram cholelithiasis chondr cillin
    clavicle cli closed closure clot cm col colon commenced comminuted comorbid complication computed
    conduction confirmed confusion consider considerable cont continue cor coreg coronar cort cough
    count ct culture curium cycle cycles cyst cytology d t d1 d5 d8 daily day days dc dccv dd
    debridement declined decompression defer dehiscence demonstrated denies derm detail diabetes
    dialysis diplopia discharge discrete displaced dizziness do doe done dor drainage drops dubious
    during echo ectomy ectopy edema eeg ef effusion ekg elbow elective elevated emg enceph endocardi
    endoscopic enoxaparin esophagus established estimated etine every evidence exchange exclude excluded
    extensive f u face facial fatigue febrile femur fen fentanil ferritin fever fibr fibula filgrastim
    findings fingers first fistula fixation flank flat fluctuating flurane flutter following foot for
    fracture friday from frozen furosemide gait gallbladder ganglion gastr gcs general get getting
    giline give given glio glucose got grade gradient gradually graft grams grel h had hand headache
    heart heavy hemorrhage hemostasis heparin hepat hepatic hernia high hip hippocamp history hod hold
    hours hpi htn humerus hx hypertension ibuprofen icd if ileus im imaging implant improving in incr
    indicated individual infection infiltrate infusion infusional inguinal injection inr insertion
    inspection insulin intend intraoperative intrathecal intravenous intravenously intubation
    irradiation irrigation is itic itis iv keppra kidney knee known laceration lactate lad laparoscopic
    laryng lasix last latency lbbb le left leg level levodopa li lidocaine light likely limits line lipo
    lithium liver lobe long longer loss low lower lu lumbar lunch lung lv lvedp lymph lymphang lysis mab
    magnesium manometry marked marrow mass maybe mcg me means median mediastinum mel melan mening
    metastasis metformin methotrexate kg m2 migraine mild milligrams milliliters minimal mitr mo
    moderate monday month morning morphine mouth mri mucositis my myel myelo myocardi na nausea neck
    needed neg negates negative neglect neither nephr neuralgia neuro neurobl neuropathic neuropathy
    neutropenia never next ng night nihss nil nl no nodal none normal not notable now nstemi ntg
    numbness oblastoma obstruction ocarcinoma oculomotor ocytoma odipine odynia of off ogram ography oid
    olol omegaly on once ondansetron oparesis opathy open operation oplasty oplegia optic or orally
    orrhaphy orrhea os osarcoma oscopy osis osteo otomy out ovarian over oxycodone oxygen p pain
    palliative palsy pancreat paracetamol parin partial patch patella pathological patient pci pelvis
    per perforation performed pericardi period peritonitis peroneal persistent phleb phrenic physical pl
    plan plasma platin plavix pleural pmh pnd pneum pneumonia po points port positive poss possible
    postoperative potassium prednisone preoperative prescribed pressure presumed previously pril prior
    prn probable procedure profound progressing progression progressive prophylaxis propofol prostate pt
    puncture q qd qhs quadrant question questionable r ra radiograph radiotherapy radius rapidly rash
    rate rca receives recommended reconstruction recurrent referred reflexes refractory refused regurg
    rejected relapse remission ren repair repeat reports required resection resolved resolving response
    rest retin revealed review rhabdo ri right rubicin rx s sa same sartan saturday says scan sciatic
    scintigraphy section seen sees seizure septal serum sev severe shoulder showed shows shunt side sig
    sim since site skin sl slight slow smear so sodium spasm speech spleen splen splint squam stable
    staged staging start started statin status stem stenosis stent stenting stimulation stomach stop
    stopped stricture stroke strong subcutaneously suggest sunday supportive surgery surgical susp
    suspected svt swelling switch syncope ta tablets takes tamoxifen taxel tbl temperature tendin th
    thalam that the then therapy there this three thrombocytopenia thrombolysis thrombus thursday
    thyroid tibia tid time times tinib to today tomography topically total toxicity tra trace trache
    training transfusion transplant treated tremor trigeminal triptan trop trouble trunk tte tu tube
    tuesday tumour twice twitching type ulna ulnar ultrasound unchanged unclear under underwent units
    unremarkable until up upper uptake urea urinalysis uterus vagal valproate valvul vel ven ventilation
    ventricul vertigo vi via vincristine vomiting vs wait wall warfarin was we weakness wednesday week
    weekly weeks weight which while wife with withheld within without wk wks wnl worse worsening wound
    wrist ray yesterday yr zo zumab
    """
)
"""Words and parts of words of the synthetic hospitals, for the byte-pair trainer only."""
